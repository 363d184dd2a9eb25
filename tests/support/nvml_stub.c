/* A stand-in for libnvidia-ml.so.1: answers from the text file named by LLMPERF_NVML_SCENARIO.
 *
 * It is read again when it changes. Lines; a device's own comes before others of its INDEX, and a
 * later one counts. What no line tells, or tells as "-", the card answers as "not supported":
 *   init CODE                          what nvmlInitWithFlags returns
 *   driver VERSION
 *   cuda VERSION                       1000 * major + 10 * minor
 *   device INDEX UUID MEMORY_MIB POWER_MW|- GEN|- WIDTH|- NAME...
 *                                      the limit of its power, and of its PCIe link
 *   lost INDEX                         the card has fallen off the bus
 *   mig INDEX SLOT UUID MEMORY_MIB COMPUTE_SLICES GPU_SLICES NAME...
 *   compute INDEX PID BYTES|-|-BYTES NAME  a process that computes there; -BYTES: holds them untold
 *   graphics INDEX PID BYTES|- NAME    a process that draws there
 *   tenant INDEX PID BYTES|-|-BYTES NAME   as compute, for as long as that process lives
 *   forbidden INDEX                    processes and events are not for this user
 *   used INDEX MIB                     memory in use besides that of the processes
 *   busy INDEX GPU_PERCENT MEMORY_PERCENT
 *   power INDEX MW                     what it draws now
 *   energy INDEX UPDATE_MS             its energy counter: the power over time, in such steps
 *   limits INDEX DEFAULT_MW ENFORCED_MW
 *   temperature INDEX NOW SLOWDOWN     degrees Celsius
 *   clocks INDEX SM_NOW SM_MAX MEM_NOW MEM_MAX  MHz
 *   buswidth INDEX BITS                of its memory
 *   throttle INDEX BITS                clock event reasons, hexadecimal
 *   link INDEX GEN WIDTH               its PCIe link now
 *   ecc INDEX CORRECTED UNCORRECTED    errors since the driver was loaded
 *   xid INDEX CODE                     an error event, told once it appears
 *   persistence INDEX 0|1
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
       TOO_SMALL = 7, TIMEOUT = 10, LOST = 15 };
enum { DEVICES = 16, SLOTS = 8, PROCESSES = 64, EVENTS = 16, COUNTERS = 24 };
/* Places in a device's counters; what a line does not state stays -1. */
enum { GPU_BUSY, MEMORY_BUSY, POWER, UPDATE, POWER_DEFAULT, POWER_ENFORCED, TEMPERATURE, SLOWDOWN,
       SM_NOW, SM_MAX, MEM_NOW, MEM_MAX, BUS_WIDTH, GEN, WIDTH, ECC_CORRECTED, ECC_UNCORRECTED,
       PERSISTENCE, POWER_LIMIT, GEN_MAX, WIDTH_MAX, USED };

typedef struct {
    int exists, parent, lost, forbidden;
    char uuid[96], name[96];
    unsigned long long mib;
    long counter[COUNTERS];
    unsigned compute, slices;
    unsigned long long throttle;
} device_t;

typedef struct {
    int device, draws, mortal;
    unsigned pid;
    unsigned long long told, held;
    char name[96];
} process_t;

typedef struct {
    device_t devices[DEVICES], migs[DEVICES][SLOTS];
    process_t processes[PROCESSES];
    struct { int device; unsigned long long code; } xids[EVENTS];
    int code, n_devices, n_processes, n_xids;
    long cuda;
    char driver[64];
} state_t;

typedef struct {
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
} process_info_t;

typedef struct {
    unsigned sms, copy, dec, enc, jpeg, ofa, gpu_slices, compute_slices;
    unsigned long long mib;
} attributes_t;

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct {
    void *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
} event_t;

/* A handle is a number, 1 + INDEX or 101 + 8 * INDEX + SLOT, so that it outlives a new reading. */
typedef void *handle_t;

static state_t states[2];
static int current, seen_xids;
static double spent[DEVICES], since[DEVICES]; /* energy in mJ until that moment */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static long number(const char *text) { return strcmp(text, "-") ? atol(text) : -1; }

/* Reads a line "WORD INDEX VALUE..." into a device's counters from place `first` on. */
static int counters(state_t *s, const char *line, const char *word, int first, int count) {
    char name[32], v[4][32];
    int index;
    if (sscanf(line, "%31s %d %31s %31s %31s %31s", name, &index, v[0], v[1], v[2], v[3]) <
            2 + count || strcmp(name, word))
        return 0;
    for (int i = 0; i < count; i++) s->devices[index].counter[first + i] = number(v[i]);
    return 1;
}

static void read_line(state_t *s, const char *line) {
    device_t d = {.exists = 1, .parent = -1};
    process_t p = {0};
    char a[64], b[64], c[64], kind[16];
    int index, slot;
    unsigned long long bits;
    memset(d.counter, -1, sizeof d.counter);
    if (sscanf(line, "init %d", &s->code) == 1 || sscanf(line, "driver %63s", s->driver) == 1 ||
        sscanf(line, "cuda %ld", &s->cuda) == 1)
        return;
    if (sscanf(line, "device %d %95s %llu %63s %63s %63s %95[^\n]", &index, d.uuid, &d.mib, a, b,
               c, d.name) == 7) {
        d.counter[POWER_LIMIT] = number(a), d.counter[GEN_MAX] = number(b);
        d.counter[WIDTH_MAX] = number(c);
        s->devices[index] = d;
        if (index >= s->n_devices) s->n_devices = index + 1;
    } else if (sscanf(line, "mig %d %d %95s %llu %u %u %95[^\n]", &index, &slot, d.uuid, &d.mib,
                      &d.compute, &d.slices, d.name) == 7) {
        d.parent = index;
        s->migs[index][slot] = d;
    } else if (sscanf(line, "throttle %d %llx", &index, &bits) == 2) {
        s->devices[index].throttle = bits;
    } else if (sscanf(line, "lost %d", &index) == 1) {
        s->devices[index].lost = 1;
    } else if (sscanf(line, "forbidden %d", &index) == 1) {
        s->devices[index].forbidden = 1;
    } else if (sscanf(line, "xid %d %llu", &index, &bits) == 2) {
        s->xids[s->n_xids].device = index, s->xids[s->n_xids++].code = bits;
    } else if (sscanf(line, "%15s %d %u %63s %95s", kind, &p.device, &p.pid, a, p.name) == 5 &&
               (!strcmp(kind, "compute") || !strcmp(kind, "graphics") || !strcmp(kind, "tenant"))) {
        p.draws = *kind == 'g', p.mortal = *kind == 't';
        p.told = *a == '-' ? ~0ULL : strtoull(a, NULL, 10);
        p.held = strtoull(*a == '-' ? a + 1 : a, NULL, 10);
        s->processes[s->n_processes++] = p;
    } else {
        (void)(counters(s, line, "busy", GPU_BUSY, 2) || counters(s, line, "power", POWER, 1) ||
               counters(s, line, "energy", UPDATE, 1) ||
               counters(s, line, "limits", POWER_DEFAULT, 2) ||
               counters(s, line, "temperature", TEMPERATURE, 2) ||
               counters(s, line, "clocks", SM_NOW, 4) ||
               counters(s, line, "buswidth", BUS_WIDTH, 1) || counters(s, line, "link", GEN, 2) ||
               counters(s, line, "ecc", ECC_CORRECTED, 2) ||
               counters(s, line, "persistence", PERSISTENCE, 1) ||
               counters(s, line, "used", USED, 1));
    }
}

/* The state that the file tells; looked at again every 10 ms, read again when it changed. */
static state_t *state(void) {
    static struct timespec read;
    static off_t size;
    static double looked;
    struct stat status;
    const char *path;
    FILE *file;
    char line[512];
    double t = now();
    if (t - looked < 0.01) return &states[current];
    looked = t;
    if (!(path = getenv("LLMPERF_NVML_SCENARIO")) || stat(path, &status)) return &states[current];
    if (read.tv_sec == status.st_mtim.tv_sec && read.tv_nsec == status.st_mtim.tv_nsec &&
        size == status.st_size)
        return &states[current];
    if (!(file = fopen(path, "r"))) return &states[current];
    read = status.st_mtim, size = status.st_size;
    for (int i = 0; i < DEVICES; i++) {
        long power = states[current].devices[i].counter[POWER];
        if (since[i]) spent[i] += power > 0 ? power * (t - since[i]) : 0;
        since[i] = t;
    }
    state_t *next = &states[!current];
    memset(next, 0, sizeof *next);
    while (fgets(line, sizeof line, file)) read_line(next, line);
    fclose(file);
    current = !current;
    return next;
}

static device_t *device(handle_t h) {
    size_t n = (size_t)h - 1;
    return n < 100 ? &state()->devices[n] : &state()->migs[(n - 100) / SLOTS][(n - 100) % SLOTS];
}

static int index_of(handle_t h) {
    size_t n = (size_t)h - 1;
    return n < 100 ? (int)n : (int)((n - 100) / SLOTS);
}

static int is_lost(handle_t h) { return state()->devices[index_of(h)].lost; }

static int counter(handle_t h, int place, unsigned *out) {
    if (is_lost(h)) return LOST;
    long value = device(h)->counter[place];
    if (value < 0) return NOT_SUPPORTED;
    *out = value;
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return state()->code; }
int nvmlShutdown(void) { return SUCCESS; }

int nvmlSystemGetDriverVersion(char *out, unsigned length) {
    if (!*state()->driver) return NOT_SUPPORTED;
    snprintf(out, length, "%s", state()->driver);
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion_v2(int *out) {
    *out = state()->cuda;
    return *out ? SUCCESS : NOT_SUPPORTED;
}

int nvmlSystemGetProcessName(unsigned pid, char *out, unsigned length) {
    state_t *s = state();
    for (int i = 0; i < s->n_processes; i++)
        if (s->processes[i].pid == pid)
            return snprintf(out, length, "%s", s->processes[i].name), SUCCESS;
    return NOT_FOUND;
}

int nvmlDeviceGetCount_v2(unsigned *count) { *count = state()->n_devices; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, handle_t *out) {
    if (index >= (unsigned)state()->n_devices) return INVALID;
    *out = (handle_t)(size_t)(index + 1);
    return is_lost(*out) ? LOST : SUCCESS;
}

int nvmlDeviceGetName(handle_t h, char *out, unsigned length) {
    snprintf(out, length, "%s", device(h)->name);
    return SUCCESS;
}

int nvmlDeviceGetUUID(handle_t h, char *out, unsigned length) {
    snprintf(out, length, "%s", device(h)->uuid);
    return SUCCESS;
}

static int listed(const process_t *p) {
    return !p->mortal || kill((int)p->pid, 0) == 0 || errno != ESRCH;
}

int nvmlDeviceGetMemoryInfo(handle_t h, memory_t *out) {
    state_t *s = state();
    device_t *d = device(h);
    long used = d->counter[USED];
    unsigned long long bytes = used > 0 ? (unsigned long long)used << 20 : 0;
    if (is_lost(h)) return LOST;
    if (!d->mib) return NOT_SUPPORTED;
    for (int i = 0; i < s->n_processes; i++)
        if (s->processes[i].device == index_of(h) && listed(&s->processes[i]))
            bytes += s->processes[i].held;
    *out = (memory_t){.total = d->mib << 20, .used = bytes, .free = (d->mib << 20) - bytes};
    return SUCCESS;
}

int nvmlDeviceGetPowerManagementLimit(handle_t h, unsigned *out) {
    return counter(h, POWER_LIMIT, out);
}
int nvmlDeviceGetPowerManagementDefaultLimit(handle_t h, unsigned *out) {
    return counter(h, POWER_DEFAULT, out);
}
int nvmlDeviceGetEnforcedPowerLimit(handle_t h, unsigned *out) {
    return counter(h, POWER_ENFORCED, out);
}
int nvmlDeviceGetMaxPcieLinkGeneration(handle_t h, unsigned *out) { return counter(h, GEN_MAX, out); }
int nvmlDeviceGetMaxPcieLinkWidth(handle_t h, unsigned *out) { return counter(h, WIDTH_MAX, out); }
int nvmlDeviceGetCurrPcieLinkGeneration(handle_t h, unsigned *out) { return counter(h, GEN, out); }
int nvmlDeviceGetCurrPcieLinkWidth(handle_t h, unsigned *out) { return counter(h, WIDTH, out); }
int nvmlDeviceGetPowerUsage(handle_t h, unsigned *out) { return counter(h, POWER, out); }
int nvmlDeviceGetMemoryBusWidth(handle_t h, unsigned *out) { return counter(h, BUS_WIDTH, out); }
int nvmlDeviceGetPersistenceMode(handle_t h, unsigned *out) { return counter(h, PERSISTENCE, out); }

int nvmlDeviceGetTemperature(handle_t h, int sensor, unsigned *out) {
    return sensor ? INVALID : counter(h, TEMPERATURE, out);
}

int nvmlDeviceGetTemperatureThreshold(handle_t h, int threshold, unsigned *out) {
    return threshold == 1 ? counter(h, SLOWDOWN, out) : NOT_SUPPORTED;
}

static int clock_of(handle_t h, int type, int sm, int memory, unsigned *out) {
    return type == 1 ? counter(h, sm, out) : type == 2 ? counter(h, memory, out) : INVALID;
}
int nvmlDeviceGetClockInfo(handle_t h, int type, unsigned *out) {
    return clock_of(h, type, SM_NOW, MEM_NOW, out);
}
int nvmlDeviceGetMaxClockInfo(handle_t h, int type, unsigned *out) {
    return clock_of(h, type, SM_MAX, MEM_MAX, out);
}

int nvmlDeviceGetUtilizationRates(handle_t h, utilization_t *out) {
    int code = counter(h, GPU_BUSY, &out->gpu);
    return code ? code : counter(h, MEMORY_BUSY, &out->memory);
}

int nvmlDeviceGetTotalEnergyConsumption(handle_t h, unsigned long long *out) {
    unsigned update, power;
    int code = counter(h, UPDATE, &update), i = index_of(h);
    if (code || (code = counter(h, POWER, &power))) return code;
    double step = (update ? update : 1) / 1000.0;
    double elapsed = (long long)(now() / step) * step - since[i];
    *out = 1000000 + spent[i] + (elapsed > 0 ? power * elapsed : 0);
    return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(handle_t h, int type, int kind, unsigned long long *out) {
    unsigned count;
    int code = kind ? INVALID : counter(h, type ? ECC_UNCORRECTED : ECC_CORRECTED, &count);
    if (!code) *out = count;
    return code;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(handle_t h, unsigned long long *out) {
    *out = device(h)->throttle;
    return is_lost(h) ? LOST : SUCCESS;
}

int nvmlDeviceGetMigMode(handle_t h, unsigned *mode, unsigned *pending) {
    int found = 0;
    for (int slot = 0; slot < SLOTS; slot++) found |= state()->migs[index_of(h)][slot].exists;
    *mode = *pending = found;
    return found ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetMaxMigDeviceCount(handle_t h, unsigned *count) {
    (void)h;
    *count = SLOTS;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(handle_t h, unsigned slot, handle_t *out) {
    if (!state()->migs[index_of(h)][slot].exists) return NOT_FOUND;
    *out = (handle_t)(size_t)(101 + index_of(h) * SLOTS + slot);
    return SUCCESS;
}

int nvmlDeviceGetAttributes_v2(handle_t h, attributes_t *out) {
    device_t *d = device(h);
    if (d->parent < 0) return INVALID;
    *out = (attributes_t){.gpu_slices = d->slices, .compute_slices = d->compute, .mib = d->mib};
    return SUCCESS;
}

static int running(handle_t h, int draws, unsigned *count, process_info_t *out) {
    state_t *s = state();
    unsigned room = *count, found = 0;
    if (is_lost(h)) return LOST;
    if (s->devices[index_of(h)].forbidden) return NO_PERMISSION;
    for (int i = 0; i < s->n_processes; i++) {
        const process_t *p = &s->processes[i];
        if (p->device != index_of(h) || p->draws != draws || !listed(p)) continue;
        if (out && found < room) out[found] = (process_info_t){.pid = p->pid, .bytes = p->told};
        found++;
    }
    *count = found;
    return found > (out ? room : 0) ? TOO_SMALL : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(handle_t h, unsigned *count, process_info_t *out) {
    return running(h, 0, count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(handle_t h, unsigned *count, process_info_t *out) {
    return running(h, 1, count, out);
}

/* Events: what was told before the set was made is over. */
int nvmlEventSetCreate(void **set) {
    seen_xids = state()->n_xids;
    *set = &seen_xids;
    return SUCCESS;
}
int nvmlEventSetFree(void *set) { (void)set; return SUCCESS; }

int nvmlDeviceRegisterEvents(handle_t h, unsigned long long types, void *set) {
    (void)types, (void)set;
    return state()->devices[index_of(h)].forbidden ? NO_PERMISSION : SUCCESS;
}

int nvmlEventSetWait_v2(void *set, event_t *out, unsigned timeout_ms) {
    state_t *s = state();
    (void)set, (void)timeout_ms;
    if (seen_xids >= s->n_xids) return TIMEOUT;
    *out = (event_t){.device = (handle_t)(size_t)(s->xids[seen_xids].device + 1), .type = 8,
                     .data = s->xids[seen_xids].code};
    seen_xids++;
    return SUCCESS;
}
