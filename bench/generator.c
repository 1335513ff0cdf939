/* The load generator: prepared request frames out, answers counted, as little as possible between.
 *
 * It shares the machine with the broker that it measures, so whatever it uses is taken from the broker: about 2 µs a request
 * beyond the kernel's own work for send and receive. `bench/generator.py` compiles it, makes the frames, and reads what it prints
 * (one line of JSON).
 *
 *     generator pump FRAMES       requests over many connections, each with `depth` under way
 *     generator paced FRAMES      requests at a rate in turn over many connections, whether or not earlier ones were answered;
 *                                 the latency counts from when each was due
 *     generator fetch FRAMES      fetches all partitions of a topic again and again on one connection
 *     generator endtoend FRAMES   produces at a rate on one connection, consumes on another
 *
 * With several ports (`--port 1,2,3`), connection i goes to port i modulo their number and sends the frames i, i + connections, …,
 * so that frame j must be for port j modulo their number, and both counts be multiples of it.
 *
 * FRAMES is a file: for each frame its size (4 bytes, big-endian, as in the protocol) and the frame; that is what a socket gets.
 * Every mode first warms the broker up with the same load that it then measures, without a pause between.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define SILENCE_S 60
#define SMALL_FRAME 4096
#define IN_SIZE 65536
#define OUT_SIZE 65536
#define MANY 64

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("generator: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *zeroed(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (!memory) fail("out of memory");
    return memory;
}

static u64 clock_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (u64)time.tv_sec * SECOND + (u64)time.tv_nsec;
}

static u64 now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static u32 get16(const u8 *at) { return (u32)at[0] << 8 | at[1]; }
static u32 get32(const u8 *at) { return (u32)at[0] << 24 | (u32)at[1] << 16 | (u32)at[2] << 8 | at[3]; }
static u64 get64(const u8 *at) { return (u64)get32(at) << 32 | get32(at + 4); }
static void put32(u8 *at, u32 value) {
    at[0] = (u8)(value >> 24), at[1] = (u8)(value >> 16), at[2] = (u8)(value >> 8), at[3] = (u8)value;
}
static void put64(u8 *at, u64 value) { put32(at, (u32)(value >> 32)), put32(at + 4, (u32)value); }

/* ---- what it is asked for ---- */

static struct {
    const char *mode, *frames;
    int ports[MANY], port_count;
    int pids[MANY], pid_count;             /* The brokers, */
    int other_pids[MANY], other_pid_count; /* and what belongs to them: ZooKeeper. */
    int connections, depth;
    double warm_s, seconds;
    u64 warm_bytes, bytes; /* Either phase ends early after so many; 0: by time only. */
    int error_at;          /* Where an answer has its error code, after its size; -1: nowhere. */
    double rate;
    int partitions_at, partitions; /* Where a fetch has its first partition, and how many. */
} job = {.connections = 1, .depth = 1, .seconds = 1, .error_at = -1, .rate = 1000, .partitions = 1};

static int parse_numbers(const char *text, int *numbers) {
    int count = 0;
    for (; *text && count < MANY; count++) {
        char *end;
        numbers[count] = (int)strtol(text, &end, 10);
        text = *end ? end + 1 : end;
    }
    return count;
}

static void parse_arguments(int count, char **words) {
    if (count < 3) fail("usage: generator pump|paced|fetch|endtoend FRAMES --port N ...");
    job.mode = words[1], job.frames = words[2];
    for (int i = 3; i + 1 < count; i += 2) {
        const char *name = words[i], *value = words[i + 1];
        if (!strcmp(name, "--port")) job.port_count = parse_numbers(value, job.ports);
        else if (!strcmp(name, "--pid")) job.pid_count = parse_numbers(value, job.pids);
        else if (!strcmp(name, "--other-pid")) job.other_pid_count = parse_numbers(value, job.other_pids);
        else if (!strcmp(name, "--connections")) job.connections = atoi(value);
        else if (!strcmp(name, "--depth")) job.depth = atoi(value);
        else if (!strcmp(name, "--warm-s")) job.warm_s = atof(value);
        else if (!strcmp(name, "--seconds")) job.seconds = atof(value);
        else if (!strcmp(name, "--warm-bytes")) job.warm_bytes = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--bytes")) job.bytes = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--error-at")) job.error_at = atoi(value);
        else if (!strcmp(name, "--rate")) job.rate = atof(value);
        else if (!strcmp(name, "--partitions-at")) job.partitions_at = atoi(value);
        else if (!strcmp(name, "--partitions")) job.partitions = atoi(value);
        else fail("unknown option %s", name);
    }
}

static struct frame { u8 *bytes; size_t size; } *frames;
static int frame_count;

static void read_frames(void) {
    FILE *file = fopen(job.frames, "rb");
    if (!file) fail("%s: %s", job.frames, strerror(errno));
    u8 head[4];
    while (fread(head, 1, 4, file) == 4) {
        size_t size = 4 + get32(head);
        frames = realloc(frames, sizeof *frames * (size_t)(frame_count + 1));
        u8 *bytes = malloc(size);
        if (!frames || !bytes) fail("out of memory");
        memcpy(bytes, head, 4);
        if (fread(bytes + 4, 1, size - 4, file) != size - 4) fail("%s ends early", job.frames);
        frames[frame_count++] = (struct frame){bytes, size};
    }
    fclose(file);
    if (!frame_count) fail("%s has no frames", job.frames);
}

static int dial(int index) {
    int port = job.ports[index % job.port_count];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        fail("port %d: %s", port, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void unblock(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

/* ---- what it measures ---- */

/* Buckets of 1/64 of a power of two: 1.6 % wide, whatever the latency. */
static u64 histogram[64 * 64], samples, highest;

static void sample(u64 ns) {
    int power = ns < 64 ? 0 : 63 - __builtin_clzll(ns) - 5;
    histogram[power * 64 + (int)(ns >> power)]++;
    samples++;
    if (ns > highest) highest = ns;
}

static double quantile_ms(double part) {
    u64 wanted = (u64)((double)samples * part), passed = 0;
    for (int i = 0; i < 64 * 64; i++) {
        passed += histogram[i];
        if (passed > wanted) {
            int power = i / 64;
            return ((double)((u64)(i % 64) << power) + (double)(1ull << power) / 2) / 1e6;
        }
    }
    return (double)highest / 1e6;
}

static enum { WARMING, MEASURING, ENDING } phase;
static u64 phase_started, requests, transferred, broker_cpu, other_cpu, own_cpu, elapsed;

static u64 cpu_ns(const int *pids, int count) {
    u64 sum = 0;
    for (int i = 0; i < count; i++) {
        clockid_t clock;
        if (clock_getcpuclockid(pids[i], &clock)) fail("no process %d", pids[i]);
        sum += clock_ns(clock);
    }
    return sum;
}

static u64 broker_cpu_ns(void) { return cpu_ns(job.pids, job.pid_count); }
static u64 other_cpu_ns(void) { return cpu_ns(job.other_pids, job.other_pid_count); }

static void begin(void) {
    phase = WARMING;
    phase_started = now_ns();
}

/* Moves on to the next phase when this one has lasted long enough. */
static void look_at_clock(u64 now) {
    u64 age = now - phase_started;
    if (phase == WARMING) {
        if (age < (u64)(job.warm_s * 1e9) && !(job.warm_bytes && transferred >= job.warm_bytes)) return;
        phase = MEASURING;
        phase_started = now;
        requests = transferred = samples = highest = 0;
        memset(histogram, 0, sizeof histogram);
        broker_cpu = broker_cpu_ns();
        other_cpu = other_cpu_ns();
        own_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    } else if (phase == MEASURING) {
        if (age < (u64)(job.seconds * 1e9) && !(job.bytes && transferred >= job.bytes)) return;
        if (!requests && age < SILENCE_S * SECOND) return; /* Without an answer there is nothing to divide by. */
        phase = ENDING;
        elapsed = age;
        broker_cpu = broker_cpu_ns() - broker_cpu;
        other_cpu = other_cpu_ns() - other_cpu;
        own_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own_cpu;
    }
}

static void report(void) {
    printf("{\"seconds\": %.6f, \"requests\": %llu, \"bytes\": %llu, \"broker_cpu_s\": %.6f, "
           "\"other_cpu_s\": %.6f, \"own_cpu_s\": %.6f, "
           "\"samples\": %llu, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"p999_ms\": %.4f, \"max_ms\": %.4f}\n",
           (double)elapsed / 1e9, (unsigned long long)requests, (unsigned long long)transferred,
           (double)broker_cpu / 1e9, (double)other_cpu / 1e9, (double)own_cpu / 1e9, (unsigned long long)samples, quantile_ms(0.5),
           quantile_ms(0.99), quantile_ms(0.999), (double)highest / 1e6);
}

/* ---- pump ---- */

struct sender {
    int fd;
    int frame;       /* The next frame. */
    int under_way;
    u32 next_id, awaited_id;
    u32 due_id;      /* At a rate: below this, requests are due, and `sent_at` says since when. */
    u64 *sent_at;    /* A ring of `depth`, by correlation id. */
    u32 *sent_size;
    int waits_for_room;
    u64 skip;        /* What is still to come of an answer that was counted. */
    size_t in_size;
    u8 in[IN_SIZE];
    size_t out_position, out_size; /* Small frames leave together. */
    u8 out[OUT_SIZE];
    size_t large_position; /* A large one leaves from where it is, but for its first 12 bytes. */
    const struct frame *large;
    u8 large_head[12];
};

static int epoll_fd, is_paced;

/* Puts as many requests as may be under way in line. */
static void fill(struct sender *sender) {
    u64 now = 0;
    while (phase != ENDING && sender->under_way < job.depth && !sender->large) {
        if (is_paced && sender->next_id == sender->due_id) return;
        const struct frame *frame = &frames[sender->frame];
        int small = frame->size <= SMALL_FRAME;
        if (small ? sender->out_size + frame->size > OUT_SIZE : sender->out_size != 0) return;
        u32 id = sender->next_id++;
        if (!is_paced) {
            if (!now) now = now_ns();
            sender->sent_at[id % (u32)job.depth] = now;
        }
        sender->sent_size[id % (u32)job.depth] = (u32)frame->size;
        u8 *head = small ? sender->out + sender->out_size : sender->large_head;
        memcpy(head, frame->bytes, small ? frame->size : 12);
        put32(head + 8, id);
        if (small) sender->out_size += frame->size;
        else sender->large = frame, sender->large_position = 0;
        sender->under_way++;
        sender->frame = (sender->frame + job.connections) % frame_count;
    }
}

static void wait_for_room(struct sender *sender, int waits) {
    if (sender->waits_for_room == waits) return;
    sender->waits_for_room = waits;
    struct epoll_event event = {.events = EPOLLIN | (waits ? EPOLLOUT : 0), .data.ptr = sender};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, sender->fd, &event);
}

static void flush(struct sender *sender) {
    for (;;) {
        fill(sender);
        ssize_t sent;
        if (sender->out_size) {
            sent = send(sender->fd, sender->out + sender->out_position, sender->out_size - sender->out_position,
                        MSG_NOSIGNAL);
        } else if (sender->large) {
            size_t position = sender->large_position, head = position < 12 ? 12 - position : 0;
            struct iovec pieces[2] = {{sender->large_head + position, head},
                                      {sender->large->bytes + position + head, sender->large->size - position - head}};
            struct msghdr message = {.msg_iov = head ? pieces : pieces + 1, .msg_iovlen = head ? 2 : 1};
            sent = sendmsg(sender->fd, &message, MSG_NOSIGNAL);
        } else {
            wait_for_room(sender, 0);
            return;
        }
        if (sent < 0) {
            if (errno != EAGAIN) fail("send: %s", strerror(errno));
            wait_for_room(sender, 1);
            return;
        }
        if (sender->out_size) {
            sender->out_position += (size_t)sent;
            if (sender->out_position == sender->out_size) sender->out_position = sender->out_size = 0;
        } else {
            sender->large_position += (size_t)sent;
            if (sender->large_position == sender->large->size) sender->large = NULL;
        }
        /* Room for one more only when an answer came: no second call to hear that. */
        if (!sender->out_size && !sender->large && sender->under_way == job.depth) {
            wait_for_room(sender, 0);
            return;
        }
    }
}

static void count_answer(struct sender *sender, const u8 *answer, u64 now) {
    u32 id = sender->awaited_id++;
    if (get32(answer) != id) fail("answer %u in place of %u", get32(answer), id);
    if (job.error_at >= 0 && get16(answer + job.error_at))
        fail("the broker answered with error %d", (int16_t)get16(answer + job.error_at));
    sender->under_way--;
    if (phase == ENDING) return;
    requests++;
    transferred += sender->sent_size[id % (u32)job.depth];
    if (phase == MEASURING) sample(now - sender->sent_at[id % (u32)job.depth]);
}

static void take_answers(struct sender *sender) {
    ssize_t got = recv(sender->fd, sender->in + sender->in_size, IN_SIZE - sender->in_size, 0);
    if (got == 0) fail("the broker closed a connection");
    if (got < 0) {
        if (errno == EAGAIN) return;
        fail("recv: %s", strerror(errno));
    }
    u64 now = now_ns();
    size_t end = sender->in_size + (size_t)got, position = 0, wanted = 8;
    if (job.error_at >= 0) wanted = 4 + (size_t)job.error_at + 2;
    while (position < end) {
        if (sender->skip) {
            size_t part = sender->skip < end - position ? sender->skip : end - position;
            sender->skip -= part;
            position += part;
        } else {
            if (end - position < wanted) break;
            size_t size = 4 + (size_t)get32(sender->in + position);
            if (size < wanted) fail("an answer of only %zu bytes", size);
            count_answer(sender, sender->in + position + 4, now);
            sender->skip = size - wanted;
            position += wanted;
        }
    }
    memmove(sender->in, sender->in + position, end - position);
    sender->in_size = end - position;
}

static struct sender *dial_all(void) {
    struct sender *senders = zeroed((size_t)job.connections, sizeof *senders);
    if (job.port_count > 1 && (job.connections % job.port_count || frame_count % job.port_count))
        fail("%d connections and %d frames for %d ports", job.connections, frame_count, job.port_count);
    epoll_fd = epoll_create1(0);
    for (int i = 0; i < job.connections; i++) {
        struct sender *sender = &senders[i];
        sender->fd = dial(i);
        unblock(sender->fd);
        sender->frame = i % frame_count;
        sender->sent_at = zeroed((size_t)job.depth, sizeof *sender->sent_at);
        sender->sent_size = zeroed((size_t)job.depth, sizeof *sender->sent_size);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = sender};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, sender->fd, &event);
    }
    return senders;
}

static int all_answered(const struct sender *senders) {
    for (int i = 0; i < job.connections; i++)
        if (senders[i].under_way) return 0;
    return 1;
}

static void handle(const struct epoll_event *events, int count) {
    for (int i = 0; i < count; i++) {
        struct sender *sender = events[i].data.ptr;
        if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) take_answers(sender);
        flush(sender);
    }
}

static void pump(void) {
    struct sender *senders = dial_all();
    begin();
    for (int i = 0; i < job.connections; i++) flush(&senders[i]);
    struct epoll_event events[256];
    for (;;) {
        int count = epoll_wait(epoll_fd, events, 256, SILENCE_S * 1000);
        if (count == 0) fail("no answer for %d s", SILENCE_S);
        look_at_clock(now_ns());
        handle(events, count);
        if (phase == ENDING && all_answered(senders)) return;
    }
}

static void paced(void) {
    is_paced = 1;
    struct sender *senders = dial_all();
    prctl(PR_SET_TIMERSLACK, 1ul);
    double gap = 1e9 / job.rate;
    u64 due = 0;
    struct epoll_event events[256];
    begin();
    u64 started = now_ns();
    for (;;) {
        u64 now = now_ns();
        look_at_clock(now);
        for (; phase != ENDING && started + (u64)((double)due * gap) <= now; due++) {
            struct sender *sender = &senders[due % (u64)job.connections];
            if (sender->due_id - sender->awaited_id == (u32)job.depth)
                fail("the broker cannot follow %.0f requests/s", job.rate);
            /* From when it was due, so that a generator held up by the broker hides nothing. */
            sender->sent_at[sender->due_id++ % (u32)job.depth] = started + (u64)((double)due * gap);
            flush(sender);
        }
        if (phase == ENDING && all_answered(senders)) return;
        u64 next = started + (u64)((double)due * gap);
        now = now_ns();
        u64 rest = phase == ENDING ? SILENCE_S * SECOND : next > now ? next - now : 0;
        struct timespec timeout = {(time_t)(rest / SECOND), (long)(rest % SECOND)};
        struct pollfd ready = {.fd = epoll_fd, .events = POLLIN};
        if (ppoll(&ready, 1, &timeout, NULL) < 0) fail("poll: %s", strerror(errno));
        if (ready.revents) handle(events, epoll_wait(epoll_fd, events, 256, 0));
        else if (phase == ENDING) fail("no answer for %d s", SILENCE_S);
    }
}

/* ---- fetch (version 11, one topic) ---- */

#define PARTITION_STRIDE 28 /* partition 4, leader epoch 4, fetch offset 8, log start offset 8, size 4 */

static struct {
    int fd;
    size_t start, end;
    u8 bytes[1 << 18];
} input;

/* The next `size` bytes, which stay in the input. */
static const u8 *peek(size_t size) {
    if (input.end - input.start < size) {
        memmove(input.bytes, input.bytes + input.start, input.end - input.start);
        input.end -= input.start, input.start = 0;
        while (input.end < size) {
            ssize_t got = recv(input.fd, input.bytes + input.end, sizeof input.bytes - input.end, 0);
            if (got <= 0) fail("recv: %s", got ? strerror(errno) : "the broker closed the connection");
            input.end += (size_t)got;
        }
    }
    return input.bytes + input.start;
}

static const u8 *take(size_t size) {
    const u8 *bytes = peek(size);
    input.start += size;
    return bytes;
}

static void skip(u64 size) {
    while (size) {
        if (input.start == input.end) peek(1);
        size_t part = input.end - input.start;
        if (part > size) part = size;
        input.start += part;
        size -= part;
    }
}

static u64 *fetch_offsets;

/* Takes one partition's records; gives how many bytes of whole batches. */
static u64 take_records(u32 partition, u64 size, u64 high_watermark) {
    u64 whole = 0;
    while (size >= 61) {
        const u8 *batch = peek(27);
        u64 length = 12 + (u64)get32(batch + 8);
        if (length > size) break;
        fetch_offsets[partition] = get64(batch) + get32(batch + 23) + 1;
        skip(length);
        whole += length;
        size -= length;
    }
    skip(size);
    /* At the end it begins again, so that what it takes does not depend on what there is. */
    if (fetch_offsets[partition] >= high_watermark) fetch_offsets[partition] = 0;
    return whole;
}

static void fetch(void) {
    struct frame *request = &frames[0];
    fetch_offsets = zeroed((size_t)job.partitions, sizeof *fetch_offsets);
    u32 *order = zeroed((size_t)job.partitions, sizeof *order), *answered = zeroed((size_t)job.partitions, sizeof *order);
    u32 *waiting = zeroed((size_t)job.partitions, sizeof *order);
    u8 *had = zeroed((size_t)job.partitions, 1);
    for (int i = 0; i < job.partitions; i++) order[i] = (u32)i;
    input.fd = dial(0);
    begin();
    while (phase != ENDING) {
        for (int i = 0; i < job.partitions; i++) {
            u8 *entry = request->bytes + job.partitions_at + i * PARTITION_STRIDE;
            put32(entry, order[i]);
            put64(entry + 8, fetch_offsets[order[i]]);
        }
        u64 sent_at = now_ns();
        for (size_t sent = 0; sent < request->size;) {
            ssize_t part = send(input.fd, request->bytes + sent, request->size - sent, MSG_NOSIGNAL);
            if (part < 0) fail("send: %s", strerror(errno));
            sent += (size_t)part;
        }
        take(4 + 4 + 4);
        u32 error = get16(take(2));
        if (error) fail("the fetch was answered with error %d", (int16_t)error);
        take(4);
        if (get32(take(4)) == 0) {
            look_at_clock(now_ns());
            continue;
        }
        take(get16(take(2)));
        u32 count = get32(take(4));
        memset(had, 0, (size_t)job.partitions);
        u64 bytes = 0;
        for (u32 i = 0; i < count; i++) {
            const u8 *head = take(4 + 2 + 8 + 8 + 8 + 4);
            u32 partition = get32(head);
            if (get16(head + 4)) fail("partition %u has error %d", partition, (int16_t)get16(head + 4));
            if (partition >= (u32)job.partitions) fail("partition %u was not asked for", partition);
            u64 high_watermark = get64(head + 6);
            int aborted = (int)get32(head + 30);
            skip(aborted > 0 ? 16ull * (u64)aborted : 0);
            int size = (int)get32(take(8) + 4);
            u64 whole = take_records(partition, size > 0 ? (u64)size : 0, high_watermark);
            had[partition] = whole != 0;
            bytes += whole;
        }
        /* Who had an answer queues at the end, as in the clients, so that a limit of the answer starves nobody. */
        int first = 0, last = 0;
        for (int i = 0; i < job.partitions; i++)
            if (had[order[i]]) answered[last++] = order[i];
            else waiting[first++] = order[i];
        memcpy(order, waiting, sizeof *order * (size_t)first);
        memcpy(order + first, answered, sizeof *order * (size_t)last);
        u64 now = now_ns();
        requests++;
        transferred += bytes;
        if (phase == MEASURING) sample(now - sent_at);
        look_at_clock(now);
    }
}

/* ---- end to end: frame 0 produces one record to partition 0, frame 1 fetches it; the topic is empty ---- */

static u8 answers[1 << 20];
static size_t answers_size;

/* Takes whole answers to fetches out of `answers`; gives whether there was one. */
static int take_fetched(const u64 *due, u64 *next, u64 limit) {
    if (answers_size < 4 || answers_size < 4 + (size_t)get32(answers)) return 0;
    size_t size = 4 + (size_t)get32(answers);
    const u8 *at = answers + 4 + 4 + 4;
    if (get16(at)) fail("the fetch was answered with error %d", (int16_t)get16(at));
    at += 2 + 4;
    u32 topics = get32(at);
    at += 4;
    if (topics) {
        at += 2 + get16(at) + 4;
        if (get16(at + 4)) fail("the partition has error %d", (int16_t)get16(at + 4));
        at += 4 + 2 + 8 + 8 + 8;
        int aborted = (int)get32(at);
        at += 4 + (aborted > 0 ? 16 * aborted : 0) + 4;
        u64 left = (int)get32(at) > 0 ? get32(at) : 0;
        at += 4;
        u64 now = now_ns();
        while (left >= 61) {
            u64 length = 12 + (u64)get32(at + 8);
            if (length > left) break;
            u64 end = get64(at) + get32(at + 23) + 1;
            for (; *next < end && *next < limit; ++*next) {
                if (phase == MEASURING) sample(now - due[*next]);
                requests++;
            }
            at += length;
            left -= length;
        }
    }
    memmove(answers, answers + size, answers_size - size);
    answers_size -= size;
    return 1;
}

static void endtoend(void) {
    if (frame_count < 2) fail("end to end needs two frames");
    u64 limit = (u64)(job.rate * (job.warm_s + job.seconds + 5)) + 1000, produced = 0, sent = 0, fetched = 0;
    size_t position = 0; /* What of the frame that is being sent has left. */
    int waits_for_room = 0;
    u64 *due = zeroed(limit, sizeof *due);
    double gap = 1e9 / job.rate;
    u8 scratch[65536];
    int producer = dial(0), consumer = dial(0), asks = 1;
    unblock(producer), unblock(consumer);
    prctl(PR_SET_TIMERSLACK, 1ul);
    begin();
    u64 started = now_ns();
    while (phase != ENDING) {
        u64 now = now_ns();
        look_at_clock(now);
        while (produced < limit && started + (u64)((double)produced * gap) <= now) {
            /* From when it was due, so that a generator held up by the broker hides nothing. */
            due[produced] = started + (u64)((double)produced * gap);
            produced++;
        }
        waits_for_room = 0;
        while (sent < produced && !waits_for_room) {
            if (position == 0) put32(frames[0].bytes + 8, (u32)sent);
            ssize_t part = send(producer, frames[0].bytes + position, frames[0].size - position, MSG_NOSIGNAL);
            if (part < 0 && errno != EAGAIN) fail("send: %s", strerror(errno));
            if (part > 0) position += (size_t)part;
            waits_for_room = position < frames[0].size;
            if (waits_for_room) break;
            position = 0;
            sent++;
            if (phase == MEASURING) transferred += frames[0].size;
        }
        if (asks) {
            put64(frames[1].bytes + job.partitions_at + 8, fetched);
            if (send(consumer, frames[1].bytes, frames[1].size, MSG_NOSIGNAL) != (ssize_t)frames[1].size)
                fail("send: %s", strerror(errno));
            asks = 0;
        }
        now = now_ns();
        u64 next = started + (u64)((double)produced * gap), rest = next > now ? next - now : 0;
        struct timespec timeout = {(time_t)(rest / SECOND), (long)(rest % SECOND)};
        struct pollfd both[2] = {{.fd = producer, .events = (short)(POLLIN | (waits_for_room ? POLLOUT : 0))}, {.fd = consumer, .events = POLLIN}};
        if (ppoll(both, 2, &timeout, NULL) < 0) fail("poll: %s", strerror(errno));
        if (both[0].revents & ~POLLOUT && recv(producer, scratch, sizeof scratch, 0) <= 0)
            fail("the producer's connection ended");
        if (both[1].revents) {
            ssize_t got = recv(consumer, answers + answers_size, sizeof answers - answers_size, 0);
            if (got <= 0) fail("the consumer's connection ended");
            answers_size += (size_t)got;
            if (take_fetched(due, &fetched, limit)) asks = 1;
        }
        if (produced == limit) fail("the broker cannot follow %.0f records/s", job.rate);
    }
}

int main(int count, char **words) {
    parse_arguments(count, words);
    read_frames();
    if (!strcmp(job.mode, "pump")) pump();
    else if (!strcmp(job.mode, "paced")) paced();
    else if (!strcmp(job.mode, "fetch")) fetch();
    else if (!strcmp(job.mode, "endtoend")) endtoend();
    else fail("unknown mode %s", job.mode);
    report();
    return 0;
}
