"""What embed, index and query cost on so many ranks: the throughput of a steady state, from what its busiest resource bears.

Resources are the cores of each node and its network line. What a thread takes for a picture, an insertion, a search comes from
`myriops plan --measure`; messages cost what LogGP says (Alexandrov et al. 1995): one of b bytes keeps the processor of its
sender o, arrives after L, keeps the processor of its receiver o, and each line on its way is busy o (g is taken to be o) and
b G. Needs numpy.
"""
import dataclasses
import math

import numpy as np

# name: o (s a message), L (s), G (s a byte)
NETWORKS = {
    "free": (0.0, 0.0, 0.0),
    "shared-memory": (0.7e-6, 0.6e-6, 0.15e-9),
    "10gbe": (6e-6, 25e-6, 0.8e-9),
    "25gbe-roce": (1.5e-6, 4e-6, 0.32e-9),
    "infiniband-100": (0.6e-6, 1.3e-6, 0.08e-9),
    "infiniband-400": (0.5e-6, 1.1e-6, 0.02e-9),
}

# The protocol: src/dist/search.c, coordinator.c, desk.c, mail.c.
BATCH, WINDOW, GROUP = 4096, 4, 16
LEAST_BATCH, SHARE = 64, 4        # the last batches are 1 / SHARE of what is left
HEAD, VISIT, VALUE, HIT = 24, 8, 4, 16  # bytes
K = 10

# What the thread that talks MPI does alone, and routing: perf record on queries to 32 shards of 400,000 SIFT descriptors.
VISIT_S = 0.03e-6      # a visit: to choose its host, to sort it on the desk
MERGE_S = 0.03e-6      # a row of ten hits into another, at the coordinator or on the desk
PARTNER_S = 0.03e-6    # a batch looks at every rank, three times
COPIED = 5e9           # bytes a second, of vectors into parcels
ROUTED = 2.0           # to weigh the clusters and to sort the shards as well, to measuring the distances alone

# The index job: src/dist/build.c, src/partition, src/eval/plan.c.
ROW_S, MOVED = 6e-6, 0.6e9  # to read a row three times, send and file it; bytes of vectors a second on that way
WRITTEN = 0.8e9             # bytes a second, of an index
SAMPLE, SAMPLE_BYTES, TRAIN_PASSES = 262144, 2 ** 28, 6.25
TRIAL = 6000                # searches that calibrate the router, of each shard
FULLEST = 1.05              # a shard to its share, at most
HAND_OUT_S = 30e-6          # a chunk, by rank 0
FILED_ROW = 70              # bytes of a row's key, source and numbers

# Wide vectors: fitted to 49,000 embeddings of CIFAR-10, 1,280 values, beside SIFT (README): 70 and 151 us at ef 40 and 100.
WIDE, AXES = 256, 192   # values from which codes are made along axes, and how many of them embeddings of pictures need
TURN_S = 0.05e-9        # a value of a vector for each axis
AGAIN_S = 0.2e-9        # a byte of whole vectors, for each of the ef best
WAY_DOWN = 20           # candidates that what a search does besides is worth: 17 of 8,000, 26 of 40,000 SIFT (ef 16, 32, 100)


class Costs:
    """Seconds of a thread, and bytes, as `plan --measure --format json` tells them."""

    def __init__(self, facts, axes=AXES):
        spent = facts["thread_seconds"]
        self.picture, self.assign = spent["picture"], spent["assign"]
        self.sizes, self.insert_at, self.search_at = spent["sizes"], spent["insert"], spent["search"]
        self.node_bytes = facts["bytes"]["index"] / facts["images"]
        self.dim, self.ef, self.longer, self.axes = facts["dim"], facts["ef"], 1.0, axes

    def code_bytes(self, dim):
        coded = min(self.axes, dim) if self.axes and dim >= WIDE else dim
        return 64 * math.ceil(coded / 64)

    def stretch(self, dim):
        """As they would be for vectors of another length. Of a step of 128 bytes 0.4 is measuring distances (plan.c); a
        wide vector is turned to its axes first, and the best found are measured on whole vectors."""
        longer = (0.6 + 0.4 * self.code_bytes(dim) / 128) / (0.6 + 0.4 * self.code_bytes(self.dim) / 128)
        keeps = self.node_bytes > self.code_bytes(self.dim) + VALUE * self.dim  # not what its codes hold already
        turned, again = self.turn_s(self.dim), self.again_s(self.dim) * keeps
        self.insert_at = [max(one - turned, one / 8) * longer + self.turn_s(dim) for one in self.insert_at]
        self.search_at = [max(one - turned - again, one / 8) * longer + self.turn_s(dim) + self.again_s(dim) for one in self.search_at]
        self.node_bytes += self.code_bytes(dim) - self.code_bytes(self.dim) + VALUE * (dim - self.dim * keeps)
        self.assign *= (0.2 + 0.8 * dim / 128) / (0.2 + 0.8 * self.dim / 128)
        self.dim = dim

    def turn_s(self, dim):
        return dim * self.axes * TURN_S if self.axes and dim >= WIDE else 0.0

    def again_s(self, dim):
        return self.ef * dim * VALUE * AGAIN_S

    def at(self, seconds, n):
        """Through two points, by the logarithm of the size."""
        step = (seconds[1] - seconds[0]) / math.log2(self.sizes[1] / self.sizes[0])
        return max(seconds[1] + step * math.log2(max(n, 2) / self.sizes[1]), min(seconds) / 4)

    def walk(self, ef):
        """Searches that keep ef candidates: they follow about ef lists of links, after the way down to them."""
        self.longer = (ef + WAY_DOWN) / (self.ef + WAY_DOWN)
        return self

    def search(self, n):
        return self.longer * self.at(self.search_at, n)

    def insert(self, n):
        return self.at(self.insert_at, n)


@dataclasses.dataclass
class Machine:
    ranks: int
    threads: int          # of a rank
    ranks_per_node: int = 1
    network: str = "infiniband-100"

    def __post_init__(self):
        self.here = min(self.ranks_per_node, self.ranks)
        self.nodes = math.ceil(self.ranks / self.here)


# ---- where shards lie, and who visits them ----

def popularity(n_shards, skew, rng):
    drawn = (1 + np.arange(n_shards)) ** -skew
    return rng.permutation(drawn / drawn.sum())


def visited(shares, visits):
    """The chance that a query visits each shard: as popular as they are, at most 1, visits in all."""
    n, chance = len(shares), np.zeros(len(shares))
    sure = np.zeros(n, bool)
    for _ in range(n):
        left = visits - sure.sum()
        chance = np.where(sure, 1.0, shares * (left / max(shares[~sure].sum(), 1e-300)))
        if not (chance > 1).any():
            break
        sure |= chance >= 1
    return np.minimum(chance, 1.0)


def hosting_nodes(n_shards, machine, chance):
    """Nodes that serve each shard: as src/dist/hosts.c has it, copies going where the visits a host are most."""
    of = [[s % machine.ranks // machine.here] for s in range(n_shards)]
    n_hosts = np.ones(n_shards)
    for rank in range(n_shards, machine.ranks):
        shard = np.argmax(chance / n_hosts)
        n_hosts[shard] += 1
        nodes = of[shard]
        if rank // machine.here not in nodes:
            nodes.append(rank // machine.here)
    return of


def spread(chance, of, n_nodes, rng, portions=16):
    """Visits of a query that each node serves of each shard, as pairs (shard, node, visits, those of its own ranks' queries).

    A rank whose node hosts a shard asks there; the others ask the least busy of its hosts."""
    busy = np.zeros(n_nodes)
    shard = np.repeat(np.arange(len(of)), [len(nodes) for nodes in of])
    node = np.concatenate([np.asarray(nodes) for nodes in of])
    first = np.concatenate([[0], np.cumsum([len(nodes) for nodes in of])])
    own = chance[shard] / n_nodes
    served = own.copy()
    np.add.at(busy, node, served)
    alone = np.array([len(nodes) == 1 for nodes in of])
    left = chance - np.bincount(shard, own, len(of))
    single = first[:-1][alone]
    served[single] += left[alone]
    np.add.at(busy, node[single], left[alone])
    for _ in range(portions if not alone.all() else 0):
        for s in rng.permutation(np.flatnonzero(~alone)):
            at = first[s] + np.argmin(busy[of[s]])
            served[at] += left[s] / portions
            busy[node[at]] += left[s] / portions
    return shard, node, served, own


# ---- query ----

def batch_size(machine, n_shards, dim, n_own=None):
    """Queries of a batch, as search.c chooses them; where n_own are all that a rank has, the mean."""
    hit_bytes, row_bytes = K * HIT, dim * VALUE
    most = min(BATCH, 2 ** 26 // n_shards, 2 ** 28 // hit_bytes // n_shards)
    if machine.ranks > 1:
        most = min(most, 2 ** 22 // (HEAD + row_bytes + n_shards * VISIT), 2 ** 22 // hit_bytes,
                   2 ** 26 // (row_bytes + hit_bytes) // min(machine.ranks, n_shards))
    most = max(most, 1)
    if n_own is None:
        return float(most)
    left, n = n_own, 0
    while left > 0:
        size = min(most, max(left // SHARE, LEAST_BATCH)) if machine.ranks > 1 else most
        left, n = left - min(size, left), n + 1
    return n_own / n


def boxes_of(machine, n_shards, dim, batch):
    """Parcels that can come in at once, as mail.c counts them."""
    letter = HEAD + batch * (dim * VALUE + n_shards * VISIT + K * HIT)
    return min(max(min(2 ** 26 / letter, machine.ranks - 1), 8), 64)


def at_once(visits, shares, threads):
    """Visits on a desk, over its shards: what all threads together make of one, to what each makes; they share groups."""
    mean = visits * shares
    group = min(max(visits / threads, 1.0), GROUP)
    groups = max(float((-np.expm1(-mean) + np.maximum(mean - group / 2, 0) / group).sum()), 1.0)
    rounds = max(1.0, groups / threads + (1 - 1 / threads) / 2)
    return groups / rounds


def log_none(chance):
    """Logarithm of the chance that none of it happens; sums and multiples of these are of several that do not."""
    return np.log1p(-np.minimum(chance, 1 - 1e-12))


def any_of(log):
    return -np.expm1(log)


@dataclasses.dataclass
class Traffic:
    """What one query of all makes each node do, on average. Arrays are by node, those of visits by pairs of shard and node."""
    node: np.ndarray      # of the pairs
    served: np.ndarray    # visits of the pairs
    load: np.ndarray      # visits served
    own: np.ndarray       # of those, of its own ranks' queries
    asked: np.ndarray     # rows of hits that go to other nodes
    parcels: np.ndarray   # in so many messages
    batch: float
    hosts: float          # nodes of a shard
    most_shards: float    # of a node

    def sent(self, dim):
        """Bytes of vectors in, bytes of hits back."""
        away = self.load - self.own
        return self.asked * dim * VALUE + away * VISIT + self.parcels * HEAD, self.asked * K * HIT + self.parcels * HEAD


def traffic(machine, n_shards, dim, visits, skew, seed, n_own):
    rng = np.random.default_rng(seed)
    heat = popularity(n_shards, skew, rng)
    chance = visited(heat, visits) if visits < n_shards else np.ones(n_shards)
    _, node, served, own = spread(chance, hosting_nodes(n_shards, machine, chance), machine.nodes, rng)
    on_node = lambda values: np.bincount(node, values, machine.nodes)
    # Of queries from elsewhere: ranks of the node that one asks, and parcels, since a batch's queries to a rank go in one.
    elsewhere = 1 - 1 / machine.nodes
    asked = any_of(on_node(log_none((served - own) / machine.here / max(elsewhere, 1e-12))))
    batch = batch_size(machine, n_shards, dim, n_own)
    parcels = any_of(batch * log_none(asked)) / batch
    return Traffic(node, served, on_node(served), on_node(own), elsewhere * machine.here * asked, elsewhere * machine.here * parcels, batch,
                   len(node) / n_shards, float(on_node(np.ones(len(node))).max()))


def on_desks(machine, way, n_boxes):
    """Visits that lie on a busy rank's desk at once, and how many of them its threads walk at the same time, by node: parcels of
    others, as many as there are boxes, and a batch of its own."""
    away = way.load - way.own
    waiting = WINDOW * way.batch * machine.ranks * away / machine.here  # in all windows
    boxes = np.where(way.parcels > 0, n_boxes * away / np.maximum(way.parcels, 1e-300), 0.0)
    visits = np.maximum(np.minimum(boxes, waiting) + way.batch * way.own * machine.nodes / machine.here, 1.0)
    side = [at_once(visits[i], way.served[way.node == i] / way.load[i], machine.threads) if way.load[i] > 0 else machine.threads
            for i in range(machine.nodes)]
    return visits, np.array(side)


def query(costs, machine, n, n_shards, visits, skew=0.0, seed=1, n_own=None):
    """Queries a second in the steady state, what bounds them, and how a lone query fares.

    Everything is reckoned for one query of all: what it makes each node do. The busiest node bounds the rate."""
    o, latency, gap = NETWORKS[machine.network]
    here, n_nodes = machine.here, machine.nodes
    way = traffic(machine, n_shards, costs.dim, visits, skew, seed, n_own)
    on_desk, side = on_desks(machine, way, boxes_of(machine, n_shards, costs.dim, way.batch))
    search_s = costs.search(n / n_shards)

    # Seconds of a rank: what one thread of it does alone, then what all of its threads share.
    messages = 2 * (way.parcels + way.parcels.sum() / n_nodes)  # of a node's ranks as hosts and as coordinators, in and out
    rows = way.asked.sum() / n_nodes
    talk = messages * o / here
    alone = ((VISIT_S * (way.load + visits / n_nodes) + MERGE_S * (way.load + rows) + rows * costs.dim * VALUE / COPIED) / here
             + PARTNER_S / way.batch)
    route = costs.assign * clusters_of(n, costs.dim, n_shards) * ROUTED / machine.threads / machine.ranks if visits < n_shards else 0.0
    busy = way.load * search_s / machine.threads / here
    idle = way.load * search_s / side / here - busy
    rank_s = talk + alone + route + busy + idle

    # Of its line: bytes go both ways at once.
    into, back = way.sent(costs.dim)
    line_s = np.maximum(into + back.sum() / n_nodes, back + into.sum() / n_nodes) * gap + messages * o
    worst = int(np.argmax(np.maximum(rank_s, line_s)))

    # A rank has no more batches under way than its window; each comes back when the busiest host has served it.
    fullest = int(np.argmax(on_desk))
    trip_s = (way.batch * machine.ranks * (route + talk[worst] + alone[worst]) + 2 * latency + on_desk[fullest] * search_s / side[fullest])
    window_s = trip_s / (WINDOW * way.batch * machine.ranks) if n_nodes > 1 else 0.0

    parts = {"searches": busy[worst], "idle threads": idle[worst], "routing": route, "one thread's work": alone[worst],
             "messages": talk[worst]}
    query_s = max(rank_s[worst], line_s[worst], window_s)
    bound = ("the line" if line_s[worst] >= query_s else "batches under way" if window_s >= query_s
             else max(parts, key=parts.get))
    return {"rate": 1 / query_s, "bound": bound, "batch": way.batch, "sent_bytes": float((into + back).sum()),
            "imbalance": max(1.0, float(rank_s.max() / rank_s.mean())), "hosts": way.hosts,
            "node_bytes": costs.node_bytes * n / n_shards * way.most_shards,
            "alone_s": lone_query_s(costs, machine, n, n_shards, visits),
            "parts": {name: float(part * machine.ranks) for name, part in parts.items()}}


def lone_query_s(costs, machine, n, n_shards, visits):
    """One query and nothing else: routed, sent, searched, sent back, merged. A round trip of LogGP to all hosts at once."""
    o, latency, gap = NETWORKS[machine.network]
    ranks = min(machine.ranks, n_shards)
    asked = min(visits, ranks * (1 - (1 - 1 / ranks) ** visits)) if visits < n_shards else ranks
    there = max(0.0, asked * (1 - 1 / ranks))
    route = costs.assign * clusters_of(n, costs.dim, n_shards) * ROUTED if visits < n_shards else 0.0
    each = max(1.0, visits / asked)
    walks = math.ceil(each / machine.threads) * costs.search(n / n_shards)
    trip = 2 * (latency + o) + (costs.dim * VALUE + K * HIT) * gap if there > 0 else 0.0
    return route + there * (2 * o + (costs.dim * VALUE) * gap) + trip + walks + (VISIT_S + MERGE_S) * visits


def visits_of(n_shards):
    """What --probe auto visits where the wish is 0.95, half of what may be missed being the router's: plan.c."""
    return min(n_shards, max(1.0, 0.8 * math.sqrt(n_shards)))


# ---- embed ----

def embed(costs, machine, n, seed=1):
    """Pictures a second. Chunks go to whoever asks; the last ones, an eighth the size of the others, end apart."""
    rng, workers = np.random.default_rng(seed), machine.ranks * machine.threads
    chunk = 32
    while chunk < 16384 and chunk * 256 < n:
        chunk *= 2
    last = min(max(chunk / 8, 4), n / workers)
    apart = float(np.abs(rng.normal(0, 0.05, workers)).max()) * last + last / 2 * (workers > 1)
    return n / max(costs.picture * (n / workers + apart), n / chunk * HAND_OUT_S)


# ---- index ----

def sample_of(n, dim):
    return min(n, SAMPLE, SAMPLE_BYTES / (VALUE * dim))


def clusters_of(n, dim, n_shards):
    return max(min(100 * n_shards, sample_of(n, dim) / 40), n_shards) if n_shards > 1 else 1


def index(costs, machine, n, n_shards):
    """Seconds of each phase; one comes after the other."""
    gap, busy = NETWORKS[machine.network][2], min(machine.ranks, n_shards)
    sample, clusters = sample_of(n, costs.dim), clusters_of(n, costs.dim, n_shards)
    row, elsewhere = VALUE * costs.dim, 1 - 1 / machine.nodes
    a_rank = math.ceil(n_shards / busy)
    fullest = 1 + (FULLEST - 1) / math.sqrt(a_rank)
    trials = TRIAL * costs.search(n / n_shards) if n_shards > 1 else 0.0
    return {"partition": costs.assign * clusters * (TRAIN_PASSES * sample + n / machine.ranks) / machine.threads * (n_shards > 1)
                         + sample * row * elsewhere * gap,
            "exchange": n / machine.ranks * (ROW_S + row / MOVED) + n / machine.nodes * row * elsewhere * gap,
            "graph": a_rank * (fullest * n / n_shards * costs.insert(n / n_shards) + trials) / machine.threads,
            "write": n * costs.node_bytes / busy / WRITTEN}


def index_rate(costs, machine, n, n_shards):
    return n / sum(index(costs, machine, n, n_shards).values())
