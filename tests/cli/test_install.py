"""What cmake --install puts in place works from there: program, library, headers, man page."""
from harness import *

import re

import numpy as np

PROGRAM_TEXT = r"""
#include <myriops/corpus.h>
#include <myriops/encoder.h>
#include <myriops/eval.h>
#include <myriops/hnsw.h>
#include <myriops/image.h>
#include <myriops/model.h>
#include <myriops/partition.h>
#include <myriops/store.h>
#include <myriops/vectors.h>
#include <myriops/version.h>
#include <stdio.h>

int main(void)
{
    const float rows[6] = {0, 0, 3, 4, 9, 9};
    const int64_t ids[3] = {10, 20, 30};
    myr_hnsw *graph;
    myr_hnsw_searcher *searcher;
    myr_hit hits[2];
    if (myr_hnsw_build(rows, 3, 2, ids, &(myr_hnsw_options){.code_max = 9}, NULL, &graph) != MYR_OK)
        return puts(myr_error_detail()), 1;
    myr_hnsw_searcher_create(graph, &searcher);
    myr_hnsw_search(searcher, rows, 2, 10, hits, NULL);
    printf("%s %lld %.1f %lld\n", myr_version(), (long long)hits[1].id, hits[1].distance, (long long)hits[0].id);
    myr_hnsw_searcher_free(searcher);
    myr_hnsw_free(graph);
    return 0;
}
"""


class Install(Case):
    @unittest.skipIf(SANITIZED, "a sanitized library needs a sanitized user")
    def test_from_a_prefix(self):
        prefix = scratch / "prefix"
        run = lambda *line, **more: subprocess.run(list(map(str, line)), capture_output=True, text=True, **more)
        installed = run("cmake", "--install", BUILD, "--prefix", prefix)
        self.assertEqual(installed.returncode, 0, installed.stderr)
        program = prefix / "bin/myriops"
        self.assertTrue((prefix / "share/man/man1/myriops.1").exists())
        some = pictures("installed", 2)
        result = run(program, "classify", "efficientnet-lite0", some / "00000.jpg", env=environment(), cwd=scratch)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("%", result.stdout)
        package = next(prefix.rglob("myriops.pc"))
        env = environment(PKG_CONFIG_PATH=package.parent, LD_LIBRARY_PATH=package.parent.parent)
        flags = run("pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", "myriops", env=env)
        self.assertEqual(flags.returncode, 0, flags.stderr)
        (scratch / "user.c").write_text(PROGRAM_TEXT)
        built = run("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", scratch / "user.c", "-o", scratch / "user", *flags.stdout.split())
        self.assertEqual(built.returncode, 0, built.stderr)
        answer = run(scratch / "user", env=env)
        self.assertRegex(answer.stdout, r"^\d+\.\d+\.\d+ 20 5\.0 10\n$", answer.stderr)

        example = re.search(r"```c\n(.*?)```", (SOURCE / "README.md").read_text(), re.S).group(1)
        (scratch / "neighbours.c").write_text(example)
        built = run("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", scratch / "neighbours.c", "-o", scratch / "neighbours",
                    *flags.stdout.split())
        self.assertEqual(built.returncode, 0, built.stderr)
        np.save(scratch / "rows.npy", np.array([[0, 0], [10, 0], [13, 4], [200, 9]], "u1"))
        answer = run(scratch / "neighbours", scratch / "rows.npy", env=env)
        self.assertEqual(answer.stdout, "0: 1 at 10.000\n1: 2 at 5.000\n2: 1 at 5.000\n3: 2 at 187.067\n", answer.stderr)


if __name__ == "__main__":
    main()
