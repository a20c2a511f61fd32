/*
 * An Ethernet switch in user space: virtual hosts on links of a given delay and speed, which can be cut.
 *
 *     hosts_switch DELAY_US MBIT NAMESPACE...
 *
 * Each network namespace (of `ip netns`) gets a TAP device "eth0" that ends here. A frame first takes its time on the
 * sender's link, then on the receiver's, as many bits as MBIT allows, and the delay once; it goes where its address was
 * last seen, or everywhere. A receiver whose queue is full loses frames, as it would at a real switch.
 *
 * Standard input takes lines: "cut N" and "mend N" (the N-th namespace's link, from 1: all frames are lost without a
 * word), "count" (answered by "PORT SENT RECEIVED LOST" for each link, in bytes and frames). Its end is ours.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PORTS = 32, QUEUE_FRAMES = 2048, FRAME_BYTES = 9216, ADDRESS_BYTES = 6, READS_A_TURN = 64 };

typedef struct frame {
    int64_t due_ns;
    size_t n_bytes;
    unsigned char bytes[FRAME_BYTES];
} frame;

typedef struct port {
    int fd;
    bool is_cut;
    unsigned char address[ADDRESS_BYTES]; /* of the host, once it has spoken */
    int64_t up_free_ns, down_free_ns;     /* when its link, to us and from us, has sent what it was given */
    frame *queue;                         /* (QUEUE_FRAMES) ring, in the order of due_ns */
    size_t first, end;                    /* counted on; modulo QUEUE_FRAMES */
    unsigned long long sent_bytes, received_bytes, n_lost;
} port;

static port ports[MAX_PORTS];
static int n_ports;
static int64_t delay_ns;
static double ns_per_byte;

static int64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int64_t on_the_line(int64_t *free_ns, int64_t from_ns, size_t n_bytes)
{
    *free_ns = (*free_ns > from_ns ? *free_ns : from_ns) + (int64_t)((double)n_bytes * ns_per_byte);
    return *free_ns;
}

static void enqueue(port *to, const unsigned char *bytes, size_t n_bytes, int64_t arrived_ns)
{
    if (to->is_cut || to->end - to->first == QUEUE_FRAMES) {
        to->n_lost++;
        return;
    }
    frame *one = &to->queue[to->end++ % QUEUE_FRAMES];
    one->due_ns = on_the_line(&to->down_free_ns, arrived_ns, n_bytes) + delay_ns;
    one->n_bytes = n_bytes;
    memcpy(one->bytes, bytes, n_bytes);
}

/* The port of an address; n_ports where nobody has spoken from it, or it is everybody's. */
static int find_port(const unsigned char *address)
{
    int p = 0;
    if (address[0] & 1)
        return n_ports;
    while (p < n_ports && memcmp(ports[p].address, address, ADDRESS_BYTES) != 0)
        p++;
    return p;
}

static void take_frame(port *from, const unsigned char *bytes, size_t n_bytes)
{
    if (from->is_cut) {
        from->n_lost++;
        return;
    }
    int64_t arrived_ns = on_the_line(&from->up_free_ns, now_ns(), n_bytes);
    from->sent_bytes += n_bytes;
    memcpy(from->address, bytes + ADDRESS_BYTES, ADDRESS_BYTES); /* a frame begins: receiver, sender */
    int to = find_port(bytes);
    for (int p = 0; p < n_ports; p++)
        if (p == to || (to == n_ports && &ports[p] != from))
            enqueue(&ports[p], bytes, n_bytes, arrived_ns);
}

static void take_frames(port *from)
{
    unsigned char bytes[FRAME_BYTES];
    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t n_bytes = read(from->fd, bytes, sizeof bytes);
        if (n_bytes < 2 * ADDRESS_BYTES)
            return;
        take_frame(from, bytes, (size_t)n_bytes);
    }
}

/* Hands over what is due; nanoseconds until the next frame is, or -1. */
static int64_t deliver(port *to)
{
    for (; to->first != to->end; to->first++) {
        const frame *one = &to->queue[to->first % QUEUE_FRAMES];
        int64_t left_ns = one->due_ns - now_ns();
        if (left_ns > 0)
            return left_ns;
        if (!to->is_cut && write(to->fd, one->bytes, one->n_bytes) == (ssize_t)one->n_bytes)
            to->received_bytes += one->n_bytes;
        else
            to->n_lost++;
    }
    return -1;
}

static void count(void)
{
    for (int p = 0; p < n_ports; p++)
        printf("%d %llu %llu %llu\n", p + 1, ports[p].sent_bytes, ports[p].received_bytes, ports[p].n_lost);
    fflush(stdout);
}

/* Lines may come in pieces; false at the end of the input. */
static bool take_order(void)
{
    static char text[256];
    static size_t n;
    char *line_end, word[16];
    int p;
    ssize_t more = read(STDIN_FILENO, text + n, sizeof text - 1 - n);
    if (more <= 0)
        return false;
    n += (size_t)more;
    text[n] = 0;
    while ((line_end = strchr(text, '\n'))) {
        *line_end = 0;
        if (strcmp(text, "count") == 0)
            count();
        else if (sscanf(text, "%15s %d", word, &p) == 2 && p >= 1 && p <= n_ports)
            ports[p - 1].is_cut = strcmp(word, "cut") == 0;
        else
            fprintf(stderr, "hosts_switch: '%s' is no order\n", text);
        n -= (size_t)(line_end + 1 - text);
        memmove(text, line_end + 1, n + 1);
    }
    return n < sizeof text - 1;
}

/* The device lives in the namespace that its maker is in, and as long as it is open. */
static bool open_port(const char *namespace, port *one)
{
    char path[256];
    struct ifreq request = {.ifr_name = "eth0", .ifr_flags = IFF_TAP | IFF_NO_PI};
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    int there = open(path, O_RDONLY);
    bool is_there = there >= 0 && setns(there, CLONE_NEWNET) == 0;
    if (there >= 0)
        close(there);
    *one = (port){.fd = is_there ? open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC) : -1,
                  .queue = malloc(QUEUE_FRAMES * sizeof *one->queue)};
    if (one->queue && one->fd >= 0 && ioctl(one->fd, TUNSETIFF, &request) == 0)
        return true;
    perror(is_there ? "/dev/net/tun" : path);
    return false;
}

static void serve(void)
{
    struct pollfd watched[MAX_PORTS + 1];
    for (int p = 0; p < n_ports; p++)
        watched[p] = (struct pollfd){.fd = ports[p].fd, .events = POLLIN};
    watched[n_ports] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    for (;;) {
        int64_t next_ns = -1;
        for (int p = 0; p < n_ports; p++) {
            int64_t left_ns = deliver(&ports[p]);
            next_ns = left_ns >= 0 && (next_ns < 0 || left_ns < next_ns) ? left_ns : next_ns;
        }
        struct timespec wait = {.tv_sec = next_ns / 1000000000, .tv_nsec = next_ns % 1000000000};
        if (ppoll(watched, (nfds_t)n_ports + 1, next_ns < 0 ? NULL : &wait, NULL) < 0)
            return;
        for (int p = 0; p < n_ports; p++)
            if (watched[p].revents & POLLIN)
                take_frames(&ports[p]);
        if (watched[n_ports].revents && !take_order())
            return;
    }
}

int main(int argc, char **argv)
{
    double delay_us = argc > 3 ? atof(argv[1]) : -1, mbit = argc > 3 ? atof(argv[2]) : -1;
    if (delay_us < 0 || mbit < 0 || argc - 3 > MAX_PORTS) {
        fprintf(stderr, "usage: hosts_switch DELAY_US MBIT NAMESPACE...   (MBIT 0: as fast as can be; at most %d)\n",
                MAX_PORTS);
        return 2;
    }
    delay_ns = (int64_t)(delay_us * 1000);
    ns_per_byte = mbit > 0 ? 8000 / mbit : 0;
    prctl(PR_SET_TIMERSLACK, 1000);
    if (setpriority(PRIO_PROCESS, 0, -10) != 0)
        perror("hosts_switch: the delay may be longer where processors are busy");
    for (; n_ports < argc - 3; n_ports++)
        if (!open_port(argv[3 + n_ports], &ports[n_ports]))
            return 1;
    puts("ready");
    fflush(stdout);
    serve();
    return 0;
}
