/* Calls an HTTP server of this machine over many kept-alive connections, each with one
 * request under way, for so many seconds; prints what came of it as one line of JSON.
 *
 *     load PORT CONNECTIONS WARM_UP_S SECONDS REQUESTS
 *
 * REQUESTS is a file of requests, each behind its length (four bytes, little endian). The
 * connections take them in turn. Answers need a Content-Length. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_BYTES 8192
#define MOST_ANSWERS 8000000

struct caller {
    int socket;
    double sent_at;
    size_t read;
    char answer[ANSWER_BYTES];
};

static char **requests;
static uint32_t *lengths;
static size_t request_count, next_request;
static uint32_t *latencies_us;
static size_t answers;
static long failures;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void read_requests(const char *path) {
    int file = open(path, O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status)) fail(path);
    char *all = malloc(status.st_size);
    if (!all || read(file, all, status.st_size) != status.st_size) fail("read");
    for (off_t at = 0; at < status.st_size; at += 4 + lengths[request_count - 1]) {
        request_count++;
        requests = realloc(requests, request_count * sizeof *requests);
        lengths = realloc(lengths, request_count * sizeof *lengths);
        memcpy(&lengths[request_count - 1], all + at, 4);
        requests[request_count - 1] = all + at + 4;
    }
    if (!request_count) fail("no requests");
}

static void call(struct caller *caller) {
    size_t i = next_request++ % request_count;
    caller->read = 0;
    caller->sent_at = now();
    if (write(caller->socket, requests[i], lengths[i]) != (ssize_t)lengths[i]) fail("write");
}

/* Whether the answer is here whole; counts it as failed unless it is a 2xx. */
static int answered(struct caller *caller) {
    caller->answer[caller->read] = 0;
    char *end = strstr(caller->answer, "\r\n\r\n");
    if (!end) return 0;
    char *length = strcasestr(caller->answer, "\r\ncontent-length:");
    if (!length || length > end) {
        fprintf(stderr, "an answer without Content-Length\n");
        exit(1);
    }
    size_t whole = end + 4 - caller->answer + strtoul(length + 17, NULL, 10);
    if (whole >= ANSWER_BYTES) exit(1);
    if (caller->read < whole) return 0;
    if (caller->answer[9] != '2') failures++;
    return 1;
}

static int by_value(const void *a, const void *b) {
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static double at_share(double share) {
    return answers ? latencies_us[(size_t)((answers - 1) * share)] / 1000.0 : 0;
}

int main(int count, char **words) {
    if (count != 6) return 2;
    int connections = atoi(words[2]);
    double warm_up_s = atof(words[3]), seconds = atof(words[4]);
    read_requests(words[5]);
    latencies_us = malloc(MOST_ANSWERS * sizeof *latencies_us);
    struct caller *callers = calloc(connections, sizeof *callers);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    int poll = epoll_create1(0), yes = 1;
    for (int i = 0; i < connections; i++) {
        callers[i].socket = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(callers[i].socket, (struct sockaddr *)&address, sizeof address)) fail("connect");
        setsockopt(callers[i].socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &callers[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, callers[i].socket, &event);
    }
    double began = now(), counts_from = began + warm_up_s, ends = counts_from + seconds;
    for (int i = 0; i < connections; i++) call(&callers[i]);
    for (double time = began; time < ends;) {
        struct epoll_event events[256];
        int ready = epoll_wait(poll, events, 256, 100);
        for (int i = 0; i < ready; i++) {
            struct caller *caller = events[i].data.ptr;
            ssize_t got = read(caller->socket, caller->answer + caller->read,
                               ANSWER_BYTES - 1 - caller->read);
            if (got <= 0) fail("the server closed a connection");
            caller->read += got;
            if (!answered(caller)) continue;
            time = now();
            if (caller->sent_at >= counts_from && answers < MOST_ANSWERS)
                latencies_us[answers++] = (time - caller->sent_at) * 1e6;
            call(caller);
        }
        time = now();
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu_s = used.ru_utime.tv_sec + used.ru_utime.tv_usec / 1e6
                   + used.ru_stime.tv_sec + used.ru_stime.tv_usec / 1e6;
    qsort(latencies_us, answers, sizeof *latencies_us, by_value);
    printf("{\"answers\": %zu, \"failures\": %ld, \"seconds\": %.3f, \"p50_ms\": %.3f, "
           "\"p99_ms\": %.3f, \"cpu_share\": %.3f}\n",
           answers, failures, seconds, at_share(0.5), at_share(0.99),
           cpu_s / (warm_up_s + seconds));
    return 0;
}
