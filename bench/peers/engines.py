"""The engines that are compared: each loads a network for a batch, answers, and is timed.

All are used in the same way: T threads, each of which runs batches of its own on one core, since that is how a corpus
is embedded. A round gives, for each thread, the median time of a run; the rate is the sum over threads of batch /
median. Myriops runs as its own program (`myriops bench cnn`) and counts in just this way.

Each engine lives in a process of its own: one that crashes on a network costs only its own figure.
"""
import json
import multiprocessing
import pathlib
import subprocess
import threading
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build" / "myriops"
WARM_UP_RUNS = 2


class Refused(Exception):
    """An engine cannot do this network, with the reason."""


class Job:
    """What every engine is told of a network: its files, the batch, the threads, some pictures in files of raw f32."""

    def __init__(self, name, folder, size, batch, threads, output):
        self.name, self.size, self.batch, self.threads, self.output = name, size, batch, threads, output
        self.onnx = folder / f"{name}.onnx"
        self.qdq = folder / "int8" / f"{name}.onnx"
        self.pictures = None  # (n, 3, size, size) float32 to compare answers on; n is a multiple of the batch
        self.scratch = None  # a folder for files of this run
        self.photos = None  # the folder of photographs, for Myriops' own calibration
        self.program = PROGRAM


def rate_of_threads(run, batch, threads, seconds):
    """Pictures a second of `threads` threads that call run(thread) for `seconds` seconds."""
    times = [[] for _ in range(threads)]
    failures = []
    barrier = threading.Barrier(threads)

    def loop(thread):
        try:
            for _ in range(WARM_UP_RUNS):
                run(thread)
            barrier.wait()
            end = time.perf_counter() + seconds
            while not times[thread] or time.perf_counter() < end:
                start = time.perf_counter()
                run(thread)
                times[thread].append(time.perf_counter() - start)
        except Exception as failure:
            failures.append(failure)
            barrier.abort()

    workers = [threading.Thread(target=loop, args=(thread,)) for thread in range(1, threads)]
    for worker in workers:
        worker.start()
    loop(0)
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return sum(batch / float(np.median(mine)) for mine in times)


class Onnxruntime:
    """All graph optimisations, one session; threads share it, each computing its runs alone."""

    def __init__(self, job, precision):
        import onnxruntime

        if precision == "bf16":
            raise Refused("onnxruntime has no bf16 on x86 processors")
        self.job = job
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_free_dimension_override_by_name("batch", job.batch)
        path = job.qdq if precision == "int8" else job.onnx
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.fill = np.ascontiguousarray(job.pictures[:job.batch])

    def answers(self):
        batches = np.split(self.job.pictures, len(self.job.pictures) // self.job.batch)
        return np.concatenate([self.session.run([self.job.output], {self.input: batch})[0] for batch in batches])

    def rate(self, seconds):
        feed = {self.input: self.fill}
        return rate_of_threads(lambda thread: self.session.run([self.job.output], feed), self.job.batch,
                               self.job.threads, seconds)


class Openvino:
    """A stream for each thread, the batch fixed. int8 is the file onnxruntime gets; what it leaves open (the layers
    between) is computed in OpenVINO's own choice for the processor."""

    def __init__(self, job, precision):
        import openvino

        self.job = job
        core = openvino.Core()
        model = core.read_model(str(job.qdq if precision == "int8" else job.onnx))
        model.reshape([job.batch, 3, job.size, job.size])
        settings = {"INFERENCE_NUM_THREADS": job.threads, "NUM_STREAMS": job.threads, "ENABLE_CPU_PINNING": False}
        if precision != "int8":
            settings["INFERENCE_PRECISION_HINT"] = precision
        self.model = core.compile_model(model, "CPU", settings)
        used = self.model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if precision == "bf16" and used != "bf16":
            raise Refused(f"OpenVINO takes {used} on this processor")
        self.output = next(port for port in self.model.outputs if job.output in port.get_names())
        self.requests = [self.model.create_infer_request() for _ in range(job.threads)]
        for request in self.requests:
            request.get_input_tensor().data[:] = job.pictures[:job.batch]

    def answers(self):
        request = self.model.create_infer_request()
        batches = np.split(self.job.pictures, len(self.job.pictures) // self.job.batch)
        return np.concatenate([request.infer([batch])[self.output].copy() for batch in batches])

    def rate(self, seconds):
        return rate_of_threads(lambda thread: self.requests[thread].infer(share_outputs=True), self.job.batch,
                               self.job.threads, seconds)


class Myriops:
    """This project's program, calibrated for int8 by its own `calibrate` on other photographs than answers are compared on."""

    def __init__(self, job, precision):
        self.job, self.precision = job, precision
        self.facts = None
        self.card = job.scratch / f"{job.name}.conf"
        self.input, self.out = job.scratch / f"{job.name}.input.f32", job.scratch / f"{job.name}.{precision}.f32"
        job.pictures.tofile(self.input)
        self.write_card()
        if precision == "int8":
            self.call("calibrate", "--pictures", "64", self.card, self.calibration_photos())

    def write_card(self):
        import pictures

        mean, std = pictures.normalisation(self.job.name)
        values = {"mean": mean * 255, "std": std * 255}
        lines = {key: ", ".join(f"{value:.6g}" for value in row) for key, row in values.items()}
        self.card.write_text(
            f"[model]\nname = {self.job.name}\nfile = {self.job.onnx.resolve()}\n\n"
            f"[input]\ntensor = image\nwidth = {self.job.size}\nheight = {self.job.size}\nresize = shorter\n"
            f"resize_to = {pictures.resize_to(self.job.size)}\nfilter = bicubic\ncrop = center\n"
            f"mean = {lines['mean']}\nstd = {lines['std']}\n\n[output]\nembedding = {self.job.output}\nmetric = cosine\n")

    def calibration_photos(self):
        tars = sorted(pathlib.Path(self.job.photos).glob("*.tar"))
        return tars[-1] if tars else self.job.photos

    def call(self, *arguments):
        line = [str(self.job.program), *map(str, arguments), "--threads", str(self.job.threads), "--format", "json", "--quiet"]
        run = subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if run.returncode != 0:
            raise Refused((run.stderr.strip().splitlines() or [f"status {run.returncode}"])[-1])
        return json.loads(run.stdout)

    def bench(self, seconds, *more):
        self.facts = self.call("bench", "cnn", "--model", self.card, "--precision", self.precision, "--batch",
                               self.job.batch, "--seconds", seconds, *more)
        if self.facts["computed_in"] != self.precision:
            raise Refused(f"Myriops takes {self.facts['computed_in']} on this processor")
        return self.facts

    def answers(self):
        self.bench(0, "--input", self.input, "--out", self.out)
        return np.fromfile(self.out, np.float32).reshape(len(self.job.pictures), -1)

    def rate(self, seconds):
        return self.bench(seconds, "--input", self.input)["images_per_s"]

    def last_facts(self):
        return self.facts


ENGINES = {f"{name}-{precision}": (kind, precision)
           for name, kind in (("myriops", Myriops), ("onnxruntime", Onnxruntime), ("openvino", Openvino))
           for precision in ("f32", "bf16", "int8") if (name, precision) != ("onnxruntime", "bf16")}
REFERENCE = "onnxruntime-f32"


# ---- a process for each ----------------------------------------------------------------------------------------------

def serve(pipe, name, job):
    """In the child: open the engine, then do what is asked, until there is nothing more."""
    kind, precision = ENGINES[name]
    engine = None
    while (message := pipe.recv()) is not None:
        try:
            if message[0] == "open":
                engine = kind(job, precision)
                pipe.send((True, None))
            else:
                pipe.send((True, getattr(engine, message[0])(*message[1:])))
        except Exception as failure:  # whatever an engine throws is its reason
            pipe.send((False, " ".join(str(failure).split())[:300]))


class Engine:
    """An engine by its name; its methods run in its process and raise Refused."""

    def __init__(self, name, job):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, name, job), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, *message):
        try:
            self.pipe.send(message)
            good, answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            raise Refused(f"it crashed (status {self.process.exitcode})") from None
        if not good:
            raise Refused(answer)
        return answer

    def close(self):
        try:
            self.pipe.send(None)
        except OSError:
            pass
        self.process.join()
