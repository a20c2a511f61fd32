"""myriops bench ann: a data set in, a curve out, and what does not fit is refused."""
import struct

from harness import *

import numpy as np


def data_set(name, metric="l2"):
    """A folder in big-ann's formats; the true neighbours are NumPy's."""
    rng = np.random.default_rng(3)
    base, queries = rng.normal(size=(2000, 24)).astype("<f4"), rng.normal(size=(50, 24)).astype("<f4")
    place = folder(name)
    write_bin(place / "base.fbin", base)
    write_bin(place / "query.fbin", queries)
    a, b = base.astype(float), queries.astype(float)
    if metric == "cosine":
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    distances = -(b @ a.T) if metric == "ip" else np.square(b[:, None] - a[None]).sum(2)
    ids = np.argsort(distances, axis=1)[:, :10].astype("<u4")
    near = np.take_along_axis(distances, ids.astype(int), 1).astype("<f4")
    (place / "groundtruth.bin").write_bytes(struct.pack("<II", *ids.shape) + ids.tobytes() + near.tobytes())
    return place


class BenchAnn(Case):
    def test_curve(self):
        for metric in ("l2", "cosine", "ip"):
            facts = myriops("bench", "ann", "--dataset", data_set(metric, metric), "--metric", metric, "--ef", "10,400",
                            "--threads", "2", "--format", "json").json()
            low, high = facts["curve"]
            self.assertEqual((facts["n"], facts["dim"], facts["queries"], low["ef"], high["ef"]), (2000, 24, 50, 10, 400))
            self.assertGreater(high["recall"], 0.99)
            self.assertLess(low["recall"], high["recall"])
            self.assertGreater(low["qps"], high["qps"])
            self.assertGreater(facts["build_points_per_s"], 0)

    def test_whole_numbers_need_no_vectors_beside_their_codes(self):
        rng = np.random.default_rng(5)
        for kind, end, low, high in (("u1", "u8bin", 0, 256), ("i1", "i8bin", -128, 128)):
            place = folder(f"whole-{kind}")
            base, queries = (rng.integers(low, high, (n, 24)).astype(kind) for n in (2000, 50))
            write_bin(place / f"base.{end}", base)
            write_bin(place / f"query.{end}", queries)
            facts = myriops("bench", "ann", "--dataset", place, "--ef", "400", "--format", "json").json()
            self.assertGreater(facts["curve"][0]["recall"], 0.99)
            self.assertLess(facts["index_bytes"] / 2000, 240)

    def test_without_true_neighbours_they_are_searched(self):
        place = data_set("untold")
        told = myriops("bench", "ann", "--dataset", place, "--ef", "20", "--format", "json").json()
        (place / "groundtruth.bin").unlink()
        found = myriops("bench", "ann", "--dataset", place, "--ef", "20", "--format", "json").json()
        self.assertEqual(told["curve"][0]["recall"], found["curve"][0]["recall"])
        self.assertEqual(told["digest"], found["digest"])

    def test_for_people(self):
        self.check(myriops("bench", "ann", "--dataset", data_set("people"), "--ef", "20"), DONE, "points/s", "recall", "queries/s")

    def test_ann_benchmarks_file(self):
        import h5py
        rng = np.random.default_rng(4)
        path = folder("hdf5") / "made.hdf5"
        base, queries = rng.normal(size=(500, 8)).astype("f4"), rng.normal(size=(10, 8)).astype("f4")
        distances = np.square(queries[:, None] - base[None]).sum(2)
        with h5py.File(path, "w") as file:
            file["train"], file["test"] = base, queries
            file["neighbors"] = np.argsort(distances, axis=1)[:, :10].astype("i4")
            file["distances"] = np.sqrt(np.sort(distances, axis=1)[:, :10])
        self.assertEqual(myriops("bench", "ann", "--dataset", path, "--ef", "500", "--format", "json").json()["curve"][0]["recall"], 1)

    def test_what_does_not_fit(self):
        place = data_set("broken")
        self.check(myriops("bench", "ann"), USAGE, "--dataset")
        self.check(myriops("bench", "ann", "--dataset", place, "--ef", "20,x"), USAGE, "ef = 20,x")
        self.check(myriops("bench", "ann", "--dataset", place / "nothing"), FAILED, "nothing")
        self.check(myriops("bench", "ann", "--dataset", place, "-k", "11"), FAILED, "neighbours")
        bytes_ = bytearray((place / "groundtruth.bin").read_bytes())
        bytes_[8:12] = struct.pack("<I", 5000)
        (place / "groundtruth.bin").write_bytes(bytes_)
        self.check(myriops("bench", "ann", "--dataset", place), FAILED, "no row of the base")
        write_bin(place / "query.fbin", np.zeros((3, 5), "<f4"))
        self.check(myriops("bench", "ann", "--dataset", place), FAILED, "do not fit")


if __name__ == "__main__":
    main()
