"""A million pictures in one run under mpirun: twenty times CIFAR-10's 50,000, through a small network.

Skipped unless asked for, since it takes minutes and wants a quiet machine:

    MYRIOPS_NIGHTLY=1 ctest --test-dir build -R cli/test_million -V

MYRIOPS_NIGHTLY_COPIES  how many times the 50,000 (20)
MYRIOPS_NIGHTLY_RANKS   ranks, of one thread each (2)
"""
import threading
import time

from harness import *

N_COPIES = int(os.environ.get("MYRIOPS_NIGHTLY_COPIES", "20"))
N_RANKS = int(os.environ.get("MYRIOPS_NIGHTLY_RANKS", "2"))
N_TARS, N_IN_TAR = 10, 5000
CIFAR = DATA / "cifar10"
MB = 1 << 20


def resident(pid):
    """Bytes in memory now, 0 once the process has ended."""
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


class Million(Case):
    def sample_memory(self, process, out, n_chunks):
        """[(share of the chunks that are there, {pid: bytes})] until the end."""
        samples = []
        while process.poll() is None:
            there = sum(1 for entry in os.scandir(out) if entry.name.startswith("chunk-") and entry.name.endswith(".h5"))
            samples.append((there / n_chunks, {pid: resident(pid) for pid in ranks_of(process)}))
            time.sleep(1)
        return samples

    def check_memory(self, samples):
        halfway = [memory for share, memory in samples if 0.4 <= share <= 0.6]
        late = [memory for share, memory in samples if 0.9 <= share]
        self.assertTrue(halfway and late, [share for share, _ in samples])
        for pid in halfway[0]:
            middle = max(memory.get(pid, 0) for memory in halfway)
            end = max(memory.get(pid, 0) for memory in late)
            print(f"rank of process {pid}: {middle / MB:.1f} MB halfway, {end / MB:.1f} MB at the end")
            self.assertLess(end - middle, 8 * MB)

    def expected(self, tars, keys):
        """What the network makes of those keys, "tar/member", the slow way."""
        import small_network
        pixels = []
        for key in keys:
            tar, member = key.split("/", 1)
            with tarfile.open(tars / f"{tar}.tar") as archive:
                pixels.append(np.asarray(Image.open(archive.extractfile(f"{member}.jpg")).convert("RGB")))
        return small_network.embed(np.stack(pixels))

    def check_vectors(self, out, tars):
        """Every item once; copies of a picture have the same bytes; some are compared with the slow way."""
        first, rows = {}, 0
        sample = {}
        rng = np.random.default_rng(3)
        for path in sorted(out.glob("chunk-*.h5")):
            with h5py.File(path, "r") as file:
                keys, vectors, ordinals = file["key"].asstr()[:], file["embedding"][:], file["ordinal"][:]
                self.assertEqual(len(file["bad/key"]), 0)
            np.testing.assert_array_equal(ordinals, np.arange(rows, rows + len(keys)))
            rows += len(keys)
            for key, vector in zip(keys, vectors):
                copy, name = key.split("-", 1)
                if copy == "copy00":
                    first[name] = vector.tobytes()
                elif first[name] != vector.tobytes():
                    self.fail(f"{key} is not as its first copy")
            place = rng.integers(len(keys))
            sample[keys[place]] = vectors[place]
        self.assertEqual(rows, N_COPIES * N_TARS * N_IN_TAR)
        self.assertEqual(len(first), N_TARS * N_IN_TAR)
        keys = sorted(sample)
        self.assertLess(np.abs(self.expected(tars, keys) - np.stack([sample[key] for key in keys])).max(), 2e-6)

    def test_a_million(self):
        import small_network
        tars, out = folder("tars"), folder("million")
        for copy in range(N_COPIES):
            for tar in range(N_TARS):
                (tars / f"copy{copy:02d}-{tar}.tar").symlink_to(CIFAR / f"cifar10-train-{tar:06d}.tar")
        card = small_network.write(folder("network"))
        n_items = N_COPIES * N_TARS * N_IN_TAR
        operand = f"{tars}/copy{{00..{N_COPIES - 1:02d}}}-{{0..9}}.tar"
        process = start("embed", "--quiet", "--format", "json", "--key-prefix-tar", "--model", card, "--threads", 1,
                        "--out", out, operand, ranks=N_RANKS)
        while not (out / "manifest.json").exists() and process.poll() is None:
            time.sleep(0.1)
        n_chunks = json.loads((out / "manifest.json").read_text())["chunks"]
        samples = self.sample_memory(process, out, n_chunks)
        said = process.stdout.read().decode()
        process.stdout.close()
        self.assertEqual(process.returncode, DONE, said)
        report = json.loads(said[said.index("{"):said.rindex("}") + 1])
        print(json.dumps(report, indent=1))
        self.assertEqual((report["items"], report["embedded"], report["bad"]), (n_items, n_items, 0))
        self.assertLess(report["idle_at_end_s"], 2)
        self.assertLess(report["root_peak_bytes"], 120 * MB + 400 * n_items, "the list of items, and what every rank has")
        self.assertLess(report["other_peak_bytes"], 160 * MB)
        self.check_memory(samples)
        self.assertFalse([path.name for path in out.iterdir() if "partial" in path.name])
        self.check_vectors(out, tars)


if __name__ == "__main__":
    if not os.environ.get("MYRIOPS_NIGHTLY"):
        print("skipped: set MYRIOPS_NIGHTLY=1")
        sys.exit(77)
    if not CIFAR.is_dir():
        print(f"skipped: {CIFAR} is not there")
        sys.exit(77)
    main()
