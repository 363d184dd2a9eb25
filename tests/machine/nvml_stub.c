/* A stand-in for libnvidia-ml.so.1: answers from the text file named by LLMPERF_NVML_SCENARIO.
 *
 * Lines, in any order:
 *   init CODE                          what nvmlInitWithFlags returns
 *   driver VERSION
 *   device INDEX UUID MEMORY_MIB POWER_MW|- GEN|- WIDTH|- NAME...
 *   lost INDEX                         the card has fallen off the bus
 *   mig INDEX SLOT UUID MEMORY_MIB COMPUTE_SLICES GPU_SLICES NAME...
 *   compute INDEX PID BYTES|- NAME     a process that computes there
 *   graphics INDEX PID BYTES|- NAME    a process that draws there
 *   buswidth INDEX BITS                of its memory
 *   clocks INDEX SM_NOW SM_MAX MEM_NOW MEM_MAX  MHz
 * A "-" makes the card answer "not supported".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, LOST = 15 };

typedef struct {
    int used, parent, lost;
    char uuid[96], name[96];
    unsigned long long mib;
    long power, gen, width, bus, clock;
    unsigned compute, slices;
    unsigned long long throttle;
} device_t;

typedef struct {
    int device, draws;
    unsigned pid;
    unsigned long long bytes;
    char name[96];
} process_t;

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

static device_t devices[16], migs[16][8];
static process_t all[64];
static int n_devices, n_processes;
static char driver[64] = "";

static long number(const char *text) { return strcmp(text, "-") ? atol(text) : -1; }

static int load(void) {
    const char *path = getenv("LLMPERF_NVML_SCENARIO");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512], a[64], b[64], c[64];
    int code = SUCCESS, index, slot;
    n_devices = n_processes = 0;
    memset(devices, 0, sizeof devices);
    memset(migs, 0, sizeof migs);
    while (file && fgets(line, sizeof line, file)) {
        device_t d = {.used = 1, .parent = -1, .bus = -1, .clock = -1};
        process_t p = {0};
        if (sscanf(line, "init %d", &code) == 1) continue;
        if (sscanf(line, "driver %63s", driver) == 1) continue;
        if (sscanf(line, "device %d %95s %llu %63s %63s %63s %95[^\n]", &index, d.uuid, &d.mib, a,
                   b, c, d.name) == 7) {
            d.power = number(a), d.gen = number(b), d.width = number(c);
            devices[index] = d;
            if (index >= n_devices) n_devices = index + 1;
        } else if (sscanf(line, "throttle %d %llx", &index, &d.throttle) == 2) {
            devices[index].throttle = d.throttle;
        } else if (sscanf(line, "buswidth %d %ld", &index, &d.bus) == 2) {
            devices[index].bus = d.bus;
        } else if (sscanf(line, "clocks %d %*d %*d %*d %ld", &index, &d.clock) == 2) {
            devices[index].clock = d.clock;
        } else if (sscanf(line, "lost %d", &index) == 1) {
            devices[index].lost = 1;
        } else if (sscanf(line, "mig %d %d %95s %llu %u %u %95[^\n]", &index, &slot, d.uuid, &d.mib,
                          &d.compute, &d.slices, d.name) == 7) {
            d.parent = index, d.power = d.gen = d.width = -1;
            migs[index][slot] = d;
        } else if (sscanf(line, "compute %d %u %63s %95s", &p.device, &p.pid, a, p.name) == 4 ||
                   (p.draws = 1,
                    sscanf(line, "graphics %d %u %63s %95s", &p.device, &p.pid, a, p.name) == 4)) {
            p.bytes = strcmp(a, "-") ? strtoull(a, NULL, 10) : ~0ULL;
            all[n_processes++] = p;
        }
    }
    if (file) fclose(file);
    return code;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return load(); }
int nvmlShutdown(void) { return SUCCESS; }

int nvmlSystemGetDriverVersion(char *out, unsigned length) {
    if (!*driver) return NOT_SUPPORTED;
    snprintf(out, length, "%s", driver);
    return SUCCESS;
}

int nvmlSystemGetProcessName(unsigned pid, char *out, unsigned length) {
    for (int i = 0; i < n_processes; i++)
        if (all[i].pid == pid) return snprintf(out, length, "%s", all[i].name), SUCCESS;
    return NOT_FOUND;
}

int nvmlDeviceGetCount_v2(unsigned *count) { *count = n_devices; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t **out) {
    if (index >= (unsigned)n_devices) return INVALID;
    if (devices[index].lost) return LOST;
    *out = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetName(device_t *d, char *out, unsigned length) {
    snprintf(out, length, "%s", d->name);
    return SUCCESS;
}

int nvmlDeviceGetUUID(device_t *d, char *out, unsigned length) {
    snprintf(out, length, "%s", d->uuid);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(device_t *d, memory_t *out) {
    if (!d->mib) return NOT_SUPPORTED;
    *out = (memory_t){.total = d->mib << 20, .free = d->mib << 20};
    return SUCCESS;
}

static int counter(long value, unsigned *out) {
    if (value < 0) return NOT_SUPPORTED;
    *out = value;
    return SUCCESS;
}

int nvmlDeviceGetPowerManagementLimit(device_t *d, unsigned *out) { return counter(d->power, out); }
int nvmlDeviceGetMaxPcieLinkGeneration(device_t *d, unsigned *out) { return counter(d->gen, out); }
int nvmlDeviceGetMaxPcieLinkWidth(device_t *d, unsigned *out) { return counter(d->width, out); }

int nvmlDeviceGetMemoryBusWidth(device_t *d, unsigned *out) { return counter(d->bus, out); }
int nvmlDeviceGetMaxClockInfo(device_t *d, unsigned kind, unsigned *out) {
    return counter(kind == 2 ? d->clock : -1, out); /* NVML_CLOCK_MEM */
}

int nvmlDeviceGetCurrentClocksThrottleReasons(device_t *d, unsigned long long *out) {
    *out = d->throttle;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(device_t *d, unsigned *current, unsigned *pending) {
    int index = d - devices, found = 0;
    for (int slot = 0; slot < 8; slot++) found |= migs[index][slot].used;
    *current = *pending = found;
    return found ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetMaxMigDeviceCount(device_t *d, unsigned *count) {
    (void)d;
    *count = 8;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(device_t *d, unsigned slot, device_t **out) {
    device_t *mig = &migs[d - devices][slot];
    if (!mig->used) return NOT_FOUND;
    *out = mig;
    return SUCCESS;
}

int nvmlDeviceGetAttributes_v2(device_t *d, attributes_t *out) {
    if (d->parent < 0) return INVALID;
    *out = (attributes_t){.gpu_slices = d->slices, .compute_slices = d->compute, .mib = d->mib};
    return SUCCESS;
}

static int running(device_t *d, int draws, unsigned *count, process_info_t *out) {
    int index = d->parent >= 0 ? d->parent : (int)(d - devices);
    unsigned room = *count, found = 0;
    for (int i = 0; i < n_processes; i++) {
        if (all[i].device != index || all[i].draws != draws) continue;
        if (out && found < room)
            out[found] = (process_info_t){.pid = all[i].pid, .bytes = all[i].bytes};
        found++;
    }
    *count = found;
    return found > (out ? room : 0) ? TOO_SMALL : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device_t *d, unsigned *count, process_info_t *out) {
    return running(d, 0, count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(device_t *d, unsigned *count, process_info_t *out) {
    return running(d, 1, count, out);
}
