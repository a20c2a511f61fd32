// The same question as bench/ann.c, put to hnswlib (Debian's libhnswlib-dev), on u8bin files.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <hnswlib/hnswlib.h>
#include <thread>
#include <vector>

struct Matrix {
    uint32_t n = 0, dim = 0;
    std::vector<float> rows;
};

static Matrix load(const char *path)
{
    std::ifstream file(path, std::ios::binary);
    Matrix m;
    file.read(reinterpret_cast<char *>(&m.n), 4).read(reinterpret_cast<char *>(&m.dim), 4);
    std::vector<uint8_t> bytes(size_t(m.n) * m.dim);
    file.read(reinterpret_cast<char *>(bytes.data()), bytes.size());
    m.rows.assign(bytes.begin(), bytes.end());
    return m;
}

static double now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return fprintf(stderr, "usage: hnswlib BASE.u8bin QUERIES.u8bin TRUTH THREADS EF...\n"), 2;
    Matrix base = load(argv[1]), queries = load(argv[2]);
    std::ifstream file(argv[3], std::ios::binary);
    uint32_t head[2];
    file.read(reinterpret_cast<char *>(head), 8);
    std::vector<float> distances(size_t(head[0]) * head[1]);
    file.seekg(8 + 4 * std::streamoff(distances.size()));
    file.read(reinterpret_cast<char *>(distances.data()), 4 * std::streamsize(distances.size()));
    hnswlib::L2Space space(base.dim);
    hnswlib::HierarchicalNSW<float> index(&space, base.n, 16, 200, 1);
    double start = now();
    std::atomic<size_t> next{1};
    index.addPoint(base.rows.data(), 0);
    std::vector<std::thread> threads;
    for (int t = 0; t < atoi(argv[4]); t++)
        threads.emplace_back([&] {
            for (size_t i; (i = next++) < base.n;)
                index.addPoint(base.rows.data() + i * base.dim, i);
        });
    for (auto &thread : threads)
        thread.join();
    printf("build %.1f\n", now() - start);
    for (int a = 5; a < argc; a++) {
        index.setEf(strtoul(argv[a], nullptr, 10));
        std::vector<double> seconds;
        size_t found = 0;
        for (int round = 0; round < 5; round++) {
            found = 0;
            start = now();
            for (size_t q = 0; q < queries.n; q++) {
                auto hits = index.searchKnn(queries.rows.data() + q * queries.dim, 10);
                for (; !hits.empty(); hits.pop())
                    found += hits.top().first <= distances[q * head[1] + 9] * (1 + 1e-6);
            }
            seconds.push_back(now() - start);
        }
        std::sort(seconds.begin(), seconds.end());
        printf("%s %.4f %.0f\n", argv[a], double(found) / (10.0 * queries.n), queries.n / seconds[2]);
        fflush(stdout);
    }
}
