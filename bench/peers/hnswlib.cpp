// The question of myriops bench ann, put to hnswlib (Debian's libhnswlib-dev).
//
//   bench_hnswlib FOLDER l2|cosine|ip THREADS EF...     FOLDER: base and query as .fbin or .u8bin, groundtruth.bin
//
// M = 16, ef_construction = 200; all threads build and search. Prints JSON. A hit counts when it is as near as the true
// tenth; the rate is that of the median of five rounds. index_bytes: vectors, links, labels and levels, without the
// map from labels and the locks.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <hnswlib/hnswlib.h>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

static const size_t K = 10;

struct Matrix {
    uint32_t n = 0, dim = 0;
    std::vector<float> rows;
    const float *row(size_t i) const { return rows.data() + i * dim; }
};

static Matrix load(const std::string &folder, const char *name, bool cosine)
{
    Matrix m;
    std::ifstream file(folder + "/" + name + ".fbin", std::ios::binary);
    bool floats = bool(file);
    if (!floats)
        file = std::ifstream(folder + "/" + name + ".u8bin", std::ios::binary);
    if (!file.read(reinterpret_cast<char *>(&m.n), 4).read(reinterpret_cast<char *>(&m.dim), 4))
        exit((fprintf(stderr, "bench_hnswlib: %s: no %s.fbin or .u8bin\n", folder.c_str(), name), 1));
    m.rows.resize(size_t(m.n) * m.dim);
    if (floats) {
        file.read(reinterpret_cast<char *>(m.rows.data()), std::streamsize(m.rows.size() * sizeof(float)));
    } else {
        std::vector<uint8_t> bytes(m.rows.size());
        file.read(reinterpret_cast<char *>(bytes.data()), std::streamsize(bytes.size()));
        m.rows.assign(bytes.begin(), bytes.end());
    }
    for (size_t i = 0; cosine && i < m.n; i++) {
        double squared = 0;
        for (uint32_t d = 0; d < m.dim; d++)
            squared += double(m.rows[i * m.dim + d]) * m.rows[i * m.dim + d];
        for (uint32_t d = 0; d < m.dim; d++)
            m.rows[i * m.dim + d] = float(m.rows[i * m.dim + d] / std::sqrt(squared));
    }
    return m;
}

static double now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static double distance(const float *a, const float *b, size_t dim, bool product)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++)
        sum += product ? -double(a[d]) * b[d] : (double(a[d]) - b[d]) * (double(a[d]) - b[d]);
    return sum;
}

// work(i) for all i < n, on all threads.
static void in_parallel(int n_threads, size_t n, const std::function<void(size_t)> &work)
{
    std::atomic<size_t> next{0};
    std::vector<std::thread> threads;
    auto run = [&] {
        for (size_t i; (i = next++) < n;)
            work(i);
    };
    for (int t = 1; t < n_threads; t++)
        threads.emplace_back(run);
    run();
    for (auto &thread : threads)
        thread.join();
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return fprintf(stderr, "usage: bench_hnswlib FOLDER l2|cosine|ip THREADS EF...\n"), 2;
    std::string folder = argv[1];
    bool cosine = std::string(argv[2]) == "cosine", product = std::string(argv[2]) == "ip";
    int n_threads = atoi(argv[3]);
    Matrix base = load(folder, "base", cosine), queries = load(folder, "query", cosine);

    std::ifstream file(folder + "/groundtruth.bin", std::ios::binary);
    uint32_t head[2];
    file.read(reinterpret_cast<char *>(head), 8);
    std::vector<uint32_t> truth(size_t(head[0]) * head[1]);
    file.read(reinterpret_cast<char *>(truth.data()), std::streamsize(truth.size() * 4));
    std::vector<double> edge(queries.n, -std::numeric_limits<double>::infinity());
    for (size_t q = 0; q < queries.n; q++)
        for (size_t i = 0; i < K; i++)
            edge[q] = std::max(edge[q], distance(base.row(truth[q * head[1] + i]), queries.row(q), base.dim, product));

    std::unique_ptr<hnswlib::SpaceInterface<float>> space;
    if (cosine || product)
        space = std::make_unique<hnswlib::InnerProductSpace>(base.dim);
    else
        space = std::make_unique<hnswlib::L2Space>(base.dim);
    hnswlib::HierarchicalNSW<float> index(space.get(), base.n, 16, 200, 1);
    double start = now();
    index.addPoint(base.row(0), 0);
    in_parallel(n_threads, base.n - 1, [&](size_t i) { index.addPoint(base.row(i + 1), i + 1); });
    double build_s = now() - start;
    size_t bytes = base.n * (index.size_data_per_element_ + sizeof(char *) + sizeof(int));
    for (uint32_t i = 0; i < base.n; i++)
        bytes += size_t(index.element_levels_[i]) * index.size_links_per_element_;
    printf("{\"build_points_per_s\": %.1f, \"index_bytes\": %zu, \"curve\": [", base.n / build_s, bytes);

    std::vector<size_t> found(queries.n * K);
    for (int a = 4; a < argc; a++) {
        index.setEf(strtoul(argv[a], nullptr, 10));
        std::vector<double> seconds;
        for (int round = 0; round < 5; round++) {
            start = now();
            in_parallel(n_threads, queries.n, [&](size_t q) {
                auto hits = index.searchKnn(queries.row(q), K);
                for (size_t i = 0; !hits.empty(); hits.pop())
                    found[q * K + i++] = hits.top().second;
            });
            seconds.push_back(now() - start);
        }
        std::sort(seconds.begin(), seconds.end());
        size_t near = 0;
        for (size_t q = 0; q < queries.n; q++)
            for (size_t i = 0; i < K; i++)
                near += distance(base.row(found[q * K + i]), queries.row(q), base.dim, product) <=
                        edge[q] + std::fabs(edge[q]) * 1e-6 + 1e-7;
        printf("%s{\"ef\": %s, \"recall\": %.6f, \"qps\": %.1f}", a > 4 ? ", " : "", argv[a],
               double(near) / double(K * queries.n), queries.n / seconds[2]);
    }
    printf("]}\n");
}
