/* The triad of STREAM: a[i] = b[i] + s * c[i], timed for arrays shared among threads.
 *
 * stream_triad THREADS ELEMENTS REPETITIONS prints one line of seconds, one number per repetition.
 * Each thread first writes its own part of the arrays, so that its pages lie near it.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct { double *a, *b, *c; size_t from, to; double began, ended; } part_t;

static pthread_barrier_t barrier;
static int repetitions;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void triad(double *restrict a, const double *restrict b, const double *restrict c,
                  double s, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) a[i] = b[i] + s * c[i];
}

static void *run(void *argument) {
    part_t *p = argument;
    for (size_t i = p->from; i < p->to; i++) p->a[i] = 0.0, p->b[i] = 1.0, p->c[i] = 2.0;
    for (int r = 0; r < repetitions; r++) {
        pthread_barrier_wait(&barrier);
        p->began = now();
        triad(p->a, p->b, p->c, 3.0, p->from, p->to);
        p->ended = now();
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int threads = atoi(argv[1]);
    size_t n = strtoull(argv[2], NULL, 10), bytes = (n * sizeof(double) + 4095) / 4096 * 4096;
    repetitions = atoi(argv[3]);
    double *a = aligned_alloc(4096, bytes), *b = aligned_alloc(4096, bytes),
           *c = aligned_alloc(4096, bytes);
    pthread_t *ids = malloc(threads * sizeof *ids);
    part_t *parts = malloc(threads * sizeof *parts);
    if (!a || !b || !c || !ids || !parts) return 3;
    pthread_barrier_init(&barrier, NULL, threads + 1);
    for (int t = 0; t < threads; t++) {
        parts[t] = (part_t){a, b, c, n * t / threads, n * (t + 1) / threads, 0, 0};
        if (pthread_create(&ids[t], NULL, run, &parts[t])) return 4;
    }
    for (int r = 0; r < repetitions; r++) {
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        /* By the threads' own clocks: this one may have to wait for a core. */
        double began = parts[0].began, ended = parts[0].ended;
        for (int t = 1; t < threads; t++) {
            if (parts[t].began < began) began = parts[t].began;
            if (parts[t].ended > ended) ended = parts[t].ended;
        }
        printf("%.9f ", ended - began);
    }
    for (int t = 0; t < threads; t++) pthread_join(ids[t], NULL);
    printf("\n");
    /* The result is used, or a compiler could leave the work out. */
    return a[n / 2] == 7.0 ? 0 : 5;
}
