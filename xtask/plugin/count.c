/* A QEMU TCG plugin (plugin API 1, QEMU 6 to 8) that counts executed guest instructions exactly.
 *
 *   -plugin count.so,out=FILE[,profile=FILE]
 *
 * At every executed marker `.inst.n 0xbf50` (a hint no core defines) FILE gets the number of
 * instructions since the previous marker, one a line; markers are not counted. The profile holds
 * address, executions and disassembly of every instruction.
 *
 *   cc -O2 -shared -fPIC count.c -o count.so
 *
 * The declarations below repeat the few of qemu-plugin.h that are used, so no header is needed. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
enum { CB_NO_REGS = 0, INLINE_ADD_U64 = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int, void *, uint64_t);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

static const uint16_t MARKER = 0xbf50;

struct line {
  uint64_t address, executed;
  char *text;
  struct line *next;
};

#define BUCKETS 8192
static struct line *buckets[BUCKETS];
static size_t lines;
static uint64_t executed, previous;
static FILE *out;
static const char *profile;

static struct line *line_of(struct qemu_plugin_insn *insn) {
  uint64_t address = qemu_plugin_insn_vaddr(insn);
  struct line **bucket = &buckets[(address >> 1) % BUCKETS];
  for (struct line *l = *bucket; l; l = l->next)
    if (l->address == address) return l;
  struct line *l = calloc(1, sizeof *l);
  if (!l) abort();
  l->address = address;
  l->text = qemu_plugin_insn_disas(insn);
  l->next = *bucket;
  *bucket = l;
  lines++;
  return l;
}

static void at_marker(unsigned cpu, void *unused) {
  (void)cpu, (void)unused;
  fprintf(out, "%llu\n", (unsigned long long)(executed - previous));
  fflush(out);
  previous = executed;
}

static void translate(plugin_id id, struct qemu_plugin_tb *tb) {
  (void)id;
  size_t n = qemu_plugin_tb_n_insns(tb);
  for (size_t i = 0; i < n; i++) {
    struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
    if (qemu_plugin_insn_size(insn) == 2 && !memcmp(qemu_plugin_insn_data(insn), &MARKER, 2)) {
      qemu_plugin_register_vcpu_insn_exec_cb(insn, at_marker, CB_NO_REGS, NULL);
      continue;
    }
    qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD_U64, &executed, 1);
    if (profile) qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD_U64, &line_of(insn)->executed, 1);
  }
}

static int by_address(const void *a, const void *b) {
  uint64_t x = (*(struct line *const *)a)->address, y = (*(struct line *const *)b)->address;
  return (x > y) - (x < y);
}

static void finish(plugin_id id, void *unused) {
  (void)id, (void)unused;
  fclose(out);
  if (!profile) return;
  struct line **sorted = malloc(lines * sizeof *sorted + 1);
  FILE *file = fopen(profile, "w");
  if (!sorted || !file) return;
  size_t n = 0;
  for (size_t b = 0; b < BUCKETS; b++)
    for (struct line *l = buckets[b]; l; l = l->next) sorted[n++] = l;
  qsort(sorted, n, sizeof *sorted, by_address);
  for (size_t i = 0; i < n; i++)
    fprintf(file, "%08llx %llu %s\n", (unsigned long long)sorted[i]->address, (unsigned long long)sorted[i]->executed,
            sorted[i]->text ? sorted[i]->text : "");
  fclose(file);
}

EXPORT int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++) {
    if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
    if (!strncmp(argv[i], "profile=", 8)) profile = strdup(argv[i] + 8);
  }
  if (!out) return -1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
  qemu_plugin_register_atexit_cb(id, finish, NULL);
  return 0;
}
