/*
 * A stand-in for libnvidia-ml.so.1: NVIDIA's management library with figures from a file.
 *
 * HELIOSTAT_FAKE_NVML names the file. It is read again whenever the number of GPUs is asked for,
 * so a test can change the figures between two samples. One line an object, words of key=value:
 *
 *   gpu uuid=GPU-a name=Fake_GPU util=50 total=8000 used=1000 temp=40 power=200000 limit=700000
 *   process pid=12 memory=500 kind=compute       on the GPU or slice above it; kind=graphics too
 *   slice uuid=MIG-b name=Fake_Slice total=4000 used=10    puts the GPU above it into MIG mode
 *
 * A value of !N makes the question fail with NVML's error N (3 not supported, 15 GPU is lost);
 * a value that is left out is not supported. "handle=!15" loses the whole GPU, "init=!9" on a
 * line of its own ("driver init=!9") makes the library unusable. memory=- is NVML's "not available".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK 0
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7
#define DRIVER_NOT_LOADED 9
#define MOST 16
#define TEXT 96
#define MEMORY_NOT_AVAILABLE (~0ULL)

typedef unsigned long long u64;
typedef struct { int error; char text[TEXT]; } value;
typedef struct { unsigned pid; u64 memory; unsigned gpu_instance, compute_instance; } process_info;
typedef struct device {
    value uuid, name, util, total, used, temp, power, limit, handle, processes;
    process_info compute[MOST], graphics[MOST];
    unsigned computes, graphicses;
    struct device *slices[MOST];
    unsigned sliced;
} device;

static device devices[MOST * 2];
static device *gpus[MOST];
static unsigned gpu_count, device_count;
static value driver;

static void set(value *target, const char *text) {
    target->error = text[0] == '!' ? atoi(text + 1) : OK;
    snprintf(target->text, TEXT, "%s", text);
    for (char *c = target->text; *c; c++)
        if (*c == '_') *c = ' ';
}

static value *find(device *d, const char *key) {
    struct { const char *key; value *target; } keys[] = {
        {"uuid", &d->uuid},   {"name", &d->name}, {"util", &d->util},   {"total", &d->total},
        {"used", &d->used},   {"temp", &d->temp}, {"power", &d->power}, {"limit", &d->limit},
        {"handle", &d->handle}, {"processes", &d->processes}};
    for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(key, keys[i].key)) return keys[i].target;
    return NULL;
}

static device *add(void) {
    device *d = &devices[device_count++];
    memset(d, 0, sizeof *d);
    const char *unset[] = {"uuid", "name", "util", "total", "used", "temp", "power", "limit"};
    for (unsigned i = 0; i < sizeof unset / sizeof *unset; i++) set(find(d, unset[i]), "!3");
    return d;
}

static void read_line(char *line) {
    static device *gpu, *current;
    process_info process = {0, MEMORY_NOT_AVAILABLE, 0, 0};
    int graphics = 0;
    char *rest, *kind = strtok_r(line, " \n", &rest), *word;
    if (!kind || device_count >= MOST * 2) return;
    if (!strcmp(kind, "gpu")) current = gpu = gpus[gpu_count++] = add();
    if (!strcmp(kind, "slice")) current = gpu->slices[gpu->sliced++] = add();
    while ((word = strtok_r(NULL, " \n", &rest))) {
        char *text = strchr(word, '=');
        if (!text) continue;
        *text++ = 0;
        if (!strcmp(kind, "driver")) set(&driver, text);
        else if (strcmp(kind, "process")) { value *v = find(current, word); if (v) set(v, text); }
        else if (!strcmp(word, "pid")) process.pid = (unsigned)strtoul(text, NULL, 10);
        else if (!strcmp(word, "memory") && strcmp(text, "-")) process.memory = strtoull(text, NULL, 10);
        else if (!strcmp(word, "kind")) graphics = !strcmp(text, "graphics");
    }
    if (strcmp(kind, "process")) return;
    if (graphics) current->graphics[current->graphicses++] = process;
    else current->compute[current->computes++] = process;
}

static int load(void) {
    char line[1024];
    const char *path = getenv("HELIOSTAT_FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return DRIVER_NOT_LOADED;
    gpu_count = device_count = 0;
    driver.error = OK;
    while (fgets(line, sizeof line, file)) read_line(line);
    fclose(file);
    return driver.error;
}

static int number(value *v, u64 *out) {
    if (v->error == OK) *out = strtoull(v->text, NULL, 10);
    return v->error;
}

static int small(value *v, unsigned *out) {
    u64 big = 0;
    int error = number(v, &big);
    if (error == OK) *out = (unsigned)big;
    return error;
}

static int text(value *v, char *out, unsigned length) {
    if (v->error == OK) snprintf(out, length, "%s", v->text);
    return v->error;
}

static int list(value *asked, process_info *have, unsigned count, unsigned *room, process_info *out) {
    unsigned fits = *room;
    if (asked->error) return asked->error;
    *room = count;
    if (count > fits) return INSUFFICIENT_SIZE;
    if (count) memcpy(out, have, count * sizeof *have);
    return OK;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return load(); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int error) { (void)error; return "refused by the stand-in"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    int error = load();
    *count = gpu_count;
    return error;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **out) {
    if (index >= gpu_count) return INVALID_ARGUMENT;
    *out = gpus[index];
    return gpus[index]->handle.error;
}

int nvmlDeviceGetUUID(device *d, char *out, unsigned length) { return text(&d->uuid, out, length); }
int nvmlDeviceGetName(device *d, char *out, unsigned length) { return text(&d->name, out, length); }
int nvmlDeviceGetPowerUsage(device *d, unsigned *out) { return small(&d->power, out); }
int nvmlDeviceGetEnforcedPowerLimit(device *d, unsigned *out) { return small(&d->limit, out); }

int nvmlDeviceGetTemperature(device *d, unsigned sensor, unsigned *out) {
    return sensor ? INVALID_ARGUMENT : small(&d->temp, out);
}

int nvmlDeviceGetUtilizationRates(device *d, unsigned *out) {
    out[1] = 0;
    return small(&d->util, out);
}

/* The first version counts what the driver reserves (here 64 bytes) as used. */
int nvmlDeviceGetMemoryInfo(device *d, u64 *out) {
    int error = number(&d->total, &out[0]);
    if (error == OK) error = number(&d->used, &out[2]);
    out[2] += 64;
    out[1] = out[0] - out[2];
    return error;
}

typedef struct { unsigned version; u64 total, reserved, available, used; } memory_v2;

int nvmlDeviceGetMemoryInfo_v2(device *d, memory_v2 *out) {
    int error = number(&d->total, &out->total);
    if (error == OK) error = number(&d->used, &out->used);
    out->reserved = 64;
    out->available = out->total - out->used - out->reserved;
    return error;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device *d, unsigned *room, process_info *out) {
    return list(&d->processes, d->compute, d->computes, room, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(device *d, unsigned *room, process_info *out) {
    return list(&d->processes, d->graphics, d->graphicses, room, out);
}

int nvmlDeviceGetMigMode(device *d, unsigned *current, unsigned *pending) {
    *current = *pending = d->sliced > 0;
    return OK;
}

/* One more than there are, as on real GPUs: not every possible slice exists. */
int nvmlDeviceGetMaxMigDeviceCount(device *d, unsigned *count) {
    *count = d->sliced + 1;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned index, device **out) {
    if (index >= d->sliced) return NOT_FOUND;
    *out = d->slices[index];
    return OK;
}

int nvmlSystemGetProcessName(unsigned pid, char *out, unsigned length) {
    snprintf(out, length, "/usr/bin/program-%u --secret", pid);
    return OK;
}
