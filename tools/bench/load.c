/* Callers on kept connections: one thread, epoll. Every token's place in its stream is checked, and its age taken.

       load PORT --connections 64 --seconds 3 --tokens 20 [--count N] [--spread SECONDS] [--whole] < REQUEST

   REQUEST is what goes over the wire, head and body; "########" in it becomes the number of the request. An answer is
   good when its status is 200, it has exactly so many tokens in their order (upstream.c tells of stamps), and, unless
   --whole is said, "[DONE]" at its end. With --count so many are asked for in all, and those that have not ended after
   --seconds have failed; else the next is asked for when one has ended, and what is under way at the end counts neither
   way. Prints JSON: times in ms. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 131072, RECEIVE = 65536, EVENTS = 512, STAMP = 26, TAIL = 16, HEAD = 16384 };
enum body { IN_HEAD, LENGTH, SIZE_LINE, CHUNK, AFTER_CHUNK, TRAILER, UNTIL_CLOSE };

struct samples { uint32_t *at; size_t count, room; };

struct caller {
    int fd;
    enum body body;
    uint64_t begun;
    size_t left;           /* bytes of the body or of the chunk that are still to come */
    char line[HEAD];       /* the head, or the line with a chunk's size */
    size_t line_size;
    char text[TEXT];       /* the end of the body without its framing, and how far it was searched */
    size_t text_size, searched;
    long tokens;
    bool ok, closes, waiting;
};

static int port, poller;
static char *request, *mark;
static size_t request_size;
static long asked, ended, failed, all_tokens, wanted_tokens, count;
static bool whole;
static char problem[256];
static struct samples latencies, first_tokens, transits;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static void note(struct samples *samples, uint64_t value) {
    if (samples->count == samples->room) {
        samples->room = samples->room ? samples->room * 2 : 4096;
        samples->at = realloc(samples->at, samples->room * sizeof *samples->at);
    }
    samples->at[samples->count++] = value > UINT32_MAX ? UINT32_MAX : value;
}

static void complain(const char *what, struct caller *caller) {
    if (*problem) return;
    snprintf(problem, sizeof problem, "%s after %ld tokens: %.80s", what, caller->tokens,
             caller->text_size ? caller->text + (caller->text_size > 80 ? caller->text_size - 80 : 0) : "");
    for (char *at = problem; *at; at++) if (*at < ' ' || *at == '"' || *at == '\\' || *at > '~') *at = ' ';
}

static void dial(struct caller *caller) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int yes = 1;
    if (caller->fd >= 0) close(caller->fd);
    caller->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(caller->fd, (struct sockaddr *)&address, sizeof address)) { perror("connect"); exit(1); }
    setsockopt(caller->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event event = {EPOLLIN, {.ptr = caller}};
    epoll_ctl(poller, EPOLL_CTL_ADD, caller->fd, &event);
}

static void ask(struct caller *caller) {
    caller->waiting = !count || asked < count;
    if (!caller->waiting) return;
    asked++;
    if (mark) for (long digit = 7, number = asked; digit >= 0; digit--, number /= 10) mark[digit] = '0' + number % 10;
    caller->body = IN_HEAD;
    caller->line_size = caller->text_size = caller->searched = caller->tokens = 0;
    caller->ok = caller->closes = false;
    caller->begun = now();
    if (send(caller->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) complain("not sent", caller);
}

static bool number_at(const char *text, int digits, uint64_t *number) {
    for (*number = 0; digits--; text++) {
        if (*text < '0' || *text > '9') return false;
        *number = *number * 10 + (*text - '0');
    }
    return true;
}

/* Find the stamps in what has come. */
static void search(struct caller *caller, uint64_t time) {
    char *end = caller->text + caller->text_size, *at = caller->text + caller->searched;
    uint64_t place, sent;
    while ((at = memchr(at, '~', end - at)) && end - at >= STAMP) {
        if (at[8] != ',' || at[25] != '~' || !number_at(at + 1, 7, &place) || !number_at(at + 9, 16, &sent)) {
            at++;
            continue;
        }
        if (place != (uint64_t)caller->tokens) {
            complain("a token out of its order", caller);
            caller->ok = false;
        }
        if (!caller->tokens++) note(&first_tokens, time - caller->begun);
        if (sent) note(&transits, time - sent);
        all_tokens++;
        at += STAMP;
    }
    caller->searched = (at ? at : end) - caller->text;
    size_t over = caller->text_size > TAIL ? caller->text_size - TAIL : 0;
    if (over > caller->searched) over = caller->searched;
    memmove(caller->text, caller->text + over, caller->text_size - over);
    caller->text_size -= over;
    caller->searched -= over;
}

static void done(struct caller *caller) {
    bool good = caller->ok && caller->tokens == wanted_tokens;
    if (good && !whole) good = memmem(caller->text, caller->text_size, "[DONE]", 6) != NULL;
    ended++;
    if (good) note(&latencies, now() - caller->begun);
    else { failed++; complain("a wrong answer", caller); }
    if (caller->closes) dial(caller);
    ask(caller);
}

static void broken(struct caller *caller, const char *what) {
    if (caller->waiting) { complain(what, caller); ended++; failed++; }
    dial(caller);
    if (caller->waiting) ask(caller);
}

static void read_head(struct caller *caller) {
    caller->line[caller->line_size] = 0;
    caller->ok = strncmp(caller->line + 8, " 200 ", 5) == 0;
    char *length = strcasestr(caller->line, "\r\ncontent-length:");
    caller->closes = strcasestr(caller->line, "\r\nconnection: close") != NULL;
    caller->body = length ? LENGTH : UNTIL_CLOSE;
    if (length) caller->left = strtoul(length + 17, NULL, 10);
    if (strcasestr(caller->line, "\r\ntransfer-encoding: chunked")) caller->body = SIZE_LINE;
    caller->line_size = 0;
}

/* Collect a line (or, with two line ends, a head); the bytes used, and whether it is whole. */
static size_t collect(struct caller *caller, const char *data, size_t size, const char *end, bool *is_whole) {
    size_t length = strlen(end), used = 0;
    *is_whole = false;
    while (used < size && !*is_whole && caller->line_size < HEAD - 1) {
        caller->line[caller->line_size++] = data[used++];
        *is_whole = caller->line_size >= length && !memcmp(caller->line + caller->line_size - length, end, length);
    }
    return used;
}

/* Take in what has come, without its framing. True when the answer is whole. */
static bool hear(struct caller *caller, const char *data, size_t size) {
    while (size) {
        size_t used = size;
        bool is_whole;
        switch (caller->body) {
        case IN_HEAD:
            used = collect(caller, data, size, "\r\n\r\n", &is_whole);
            if (is_whole) read_head(caller);
            break;
        case SIZE_LINE:
            used = collect(caller, data, size, "\r\n", &is_whole);
            if (!is_whole) break;
            caller->left = strtoul(caller->line, NULL, 16);
            caller->line_size = 0;
            caller->body = caller->left ? CHUNK : TRAILER;
            break;
        case AFTER_CHUNK:
        case TRAILER:
            used = collect(caller, data, size, "\r\n", &is_whole);
            if (!is_whole) break;
            if (caller->body == TRAILER && caller->line_size == 2) return true;
            if (caller->body == AFTER_CHUNK) caller->body = SIZE_LINE;
            caller->line_size = 0;
            break;
        default:
            if (caller->body != UNTIL_CLOSE && used > caller->left) used = caller->left;
            memcpy(caller->text + caller->text_size, data, used);
            caller->text_size += used;
            if (caller->body == UNTIL_CLOSE) break;
            caller->left -= used;
            if (!caller->left && caller->body == CHUNK) caller->body = AFTER_CHUNK;
            if (!caller->left && caller->body == LENGTH) return true;
        }
        data += used;
        size -= used;
    }
    return false;
}

static void receive(struct caller *caller) {
    static char data[RECEIVE];
    ssize_t got = recv(caller->fd, data, RECEIVE, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got == 0 && caller->body == UNTIL_CLOSE && caller->waiting) {
        caller->closes = true;
        done(caller);
    } else if (got <= 0) {
        broken(caller, "closed early");
    } else {
        bool is_whole = hear(caller, data, got);
        search(caller, now());
        if (is_whole) done(caller);
    }
}

static int compare(const void *one, const void *other) {
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static void print(const char *name, struct samples *samples) {
    static const double shares[] = {0.5, 0.9, 0.99, 1};
    static const char *names[] = {"p50", "p90", "p99", "max"};
    printf(", \"%s\": {", name);
    if (samples->count) qsort(samples->at, samples->count, sizeof *samples->at, compare);
    for (int each = 0; each < 4; each++) {
        size_t at = samples->count ? (samples->count - 1) * shares[each] : 0;
        printf("%s\"%s\": ", each ? ", " : "", names[each]);
        if (samples->count) printf("%.3f", samples->at[at] / 1000.0); else printf("null");
    }
    printf("}");
}

static uint64_t run(struct caller **callers, int connections, double seconds, double spread) {
    struct epoll_event events[EVENTS];
    uint64_t begun = now(), end = begun + (uint64_t)(seconds * 1e6), time;
    int started = 0;
    while ((time = now()) < end && !(count && ended >= count)) {
        while (started < connections && begun + (uint64_t)(spread * 1e6 * started / connections) <= time)
            ask(callers[started++]);
        int got = epoll_wait(poller, events, EVENTS, started < connections ? 1 : 100);
        for (int each = 0; each < got; each++) receive(events[each].data.ptr);
    }
    return now() - begun;
}

static void read_request(void) {
    request = malloc(1 << 20);
    request_size = fread(request, 1, 1 << 20, stdin);
    mark = memmem(request, request_size, "########", 8);
}

int main(int words, char **word) {
    static const struct option options[] = {
        {"connections", 1, 0, 'c'}, {"seconds", 1, 0, 's'}, {"tokens", 1, 0, 't'}, {"count", 1, 0, 'n'},
        {"spread", 1, 0, 'p'}, {"whole", 0, 0, 'w'}, {0, 0, 0, 0},
    };
    int connections = 1, option;
    double seconds = 1, spread = 0;
    while ((option = getopt_long(words, word, "", options, NULL)) >= 0) {
        if (option == 'c') connections = atoi(optarg);
        else if (option == 's') seconds = strtod(optarg, NULL);
        else if (option == 't') wanted_tokens = atol(optarg);
        else if (option == 'n') count = atol(optarg);
        else if (option == 'p') spread = strtod(optarg, NULL);
        else if (option == 'w') whole = true;
        else return 2;
    }
    if (optind != words - 1) { fprintf(stderr, "load PORT --connections N ... < REQUEST\n"); return 2; }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    port = atoi(word[optind]);
    poller = epoll_create1(0);
    read_request();
    struct caller **callers = calloc(connections, sizeof *callers);
    for (int each = 0; each < connections; each++) {
        callers[each] = calloc(1, sizeof **callers);
        callers[each]->fd = -1;
        dial(callers[each]);
    }
    double taken = run(callers, connections, seconds, spread) / 1e6;
    if (count && ended < count) { failed += count - ended; complain("not in time", callers[0]); }
    printf("{\"seconds\": %.6f, \"answers\": %ld, \"failed\": %ld, \"problem\": \"%s\", \"tokens\": %ld", taken,
           (long)latencies.count, failed, problem, all_tokens);
    print("latency_ms", &latencies);
    print("ttft_ms", &first_tokens);
    print("transit_ms", &transits);
    printf("}\n");
    return 0;
}
