"""Real pictures and vectors against what others make of them (the folder of test data must be there)."""
import tempfile

from harness import *

PHOTOS = DATA / "photos/photos-{000000..000004}.tar"
# Inverted residuals in one piece, which rounds less, want AMX.
HAS_AMX, HAS_BLOCKS = (flag in pathlib.Path("/proc/cpuinfo").read_text() for flag in ("amx_bf16", "avx512_bf16"))
BACKENDS = [name for name in os.environ.get("MYRIOPS_BACKENDS", "onednn openblas").split()]


def needs(path):
    return unittest.skipUnless(pathlib.Path(path).exists(), f"{path} is missing")


class Photos(Case):
    def compare(self, out, name, least):
        """The worst cosine to the oracle of an embedding folder is at least this."""
        wanted_of = dict(zip((DATA / "oracle/lite0-keys.txt").read_text().split(), np.load(DATA / "oracle/lite0-embedding.npy")))
        keys, found = read_embeddings(out)
        self.assertEqual(sorted(keys), sorted(wanted_of))
        cosines = [float(row @ wanted_of[key] / np.linalg.norm(row) / np.linalg.norm(wanted_of[key])) for key, row in zip(keys, found)]
        print(f"{name}: worst cosine {min(cosines):.7f}, mean {np.mean(cosines):.9f} over {len(cosines)} photos")
        self.assertGreaterEqual(min(cosines), least)

    @needs(DATA / "oracle")
    def test_every_embedding_matches_pillow_and_onnxruntime(self):
        for backend in BACKENDS:
            out = scratch / f"photos-{backend}"
            self.embed(out, "--backend", backend, PHOTOS, ranks=2, timeout=800)
            self.compare(out, backend, 0.9999)

    @needs(DATA / "oracle")
    def test_bf16(self):
        out = scratch / "photos-bf16"
        self.embed(out, "--precision", "bf16", PHOTOS, ranks=2, timeout=800)
        self.compare(out, "bf16", 0.9995 if HAS_BLOCKS else 0.996)

    @needs(DATA / "oracle")
    def test_int8_as_the_card_is_calibrated(self):
        def neighbours(rows):
            likeness = rows @ rows.T
            np.fill_diagonal(likeness, -2)
            return np.argsort(-likeness, axis=1)[:, :10]

        found = {}
        for precision in ("f32", "int8"):
            out = scratch / f"photos-in-{precision}"
            self.embed(out, "--precision", precision, PHOTOS, ranks=2, timeout=800)
            keys, rows = read_embeddings(out)
            rows = np.asarray(rows, float)[np.argsort(keys)]
            found[precision] = neighbours(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        self.compare(out, "int8", 0.99)
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found["f32"], found["int8"])])
        print(f"int8: recall@10 {recall:.4f} against f32")
        self.assertGreaterEqual(recall, 0.97 if HAS_AMX else 0.94)

    @needs(DATA / "oracle")
    def test_classes(self):
        result = myriops("classify", "--format", "json", "efficientnet-lite0", PHOTOS, timeout=800)
        self.check(result, DONE)
        answer = result.json()
        print(f"top-1 {answer['top1']:.3f}, top-5 {answer['topk']:.3f}")
        self.assertEqual(answer["labelled"], 500)
        self.assertGreaterEqual(answer["top1"], 0.88)
        wanted = dict(zip((DATA / "oracle/lite0-keys.txt").read_text().split(), np.load(DATA / "oracle/lite0-top5.npy")))
        same = np.mean([picture["classes"][0]["class"] == wanted[picture["key"]][0] for picture in answer["pictures"]])
        self.assertGreaterEqual(same, 0.99)


class Descriptors(Case):
    @needs(DATA / "sift")
    @unittest.skipIf(SANITIZED, "400,000 vectors take too long with sanitizers")
    def test_recall_at_the_defaults(self):
        index, hits = scratch / "sift", scratch / "sift.hdf5"
        self.check(myriops("index", "--quiet", "--shards", 4, "--out", index, DATA / "sift/base.u8bin", ranks=2, timeout=800), DONE)
        self.check(myriops("query", "--quiet", "--index", index, "--vectors", DATA / "sift/query.u8bin", "--out", hits, ranks=2), DONE)
        data = (DATA / "sift/groundtruth.bin").read_bytes()
        n, k = np.frombuffer(data[:8], np.uint32)
        distances = np.sqrt(np.frombuffer(data[8 + 4 * n * k :], np.float32).reshape(n, k))
        with h5py.File(hits, "r") as file:
            found = file["distances"][:]
        recall = (found <= distances[:, 9:10] * (1 + 1e-6)).mean()
        print(f"recall@10 {recall:.4f} over {n} queries, 400,000 vectors in 4 shards")
        self.assertGreaterEqual(recall, 0.95)


if __name__ == "__main__":
    main()
