/*
 * Lets Android's arm64 llama.cpp run under qemu with Debian's glibc: what bionic has and glibc has not, or has otherwise. For tests only;
 * it is preloaded, so that it comes before glibc. Built without any libc's headers, since it stands between two of them.
 */
#include <stddef.h>

/* Bionic keeps the stack guard at a fixed place behind the thread pointer, where glibc puts the first library's thread-local data: this. */
__attribute__((tls_model("initial-exec"))) __thread char room_for_the_stack_guard[64];
char *keep_it(void) { return room_for_the_stack_guard; }

/* stdin, stdout and stderr are places in an array in bionic, pointers in glibc. */
#define SIZEOF_FILE 152
char __sF[3 * SIZEOF_FILE];
extern void *stdin, *stdout, *stderr;
extern int _IO_fflush(void *);
extern int _IO_fputs(const char *, void *);
extern int _IO_putc(int, void *);
extern int _IO_vfprintf(void *, const char *, __builtin_va_list);
extern size_t _IO_fwrite(const void *, size_t, size_t, void *);

static void *glibc_file(void *file) {
    char *at = file;
    if (at < __sF || at >= __sF + sizeof __sF) return file;
    size_t index = (size_t) (at - __sF) / SIZEOF_FILE;
    return index == 0 ? stdin : index == 1 ? stdout : stderr;
}

int fflush(void *file) { return _IO_fflush(glibc_file(file)); }
int fputs(const char *text, void *file) { return _IO_fputs(text, glibc_file(file)); }
int fputc(int c, void *file) { return _IO_putc(c, glibc_file(file)); }
int vfprintf(void *file, const char *format, __builtin_va_list rest) { return _IO_vfprintf(glibc_file(file), format, rest); }
int fprintf(void *file, const char *format, ...) {
    __builtin_va_list rest;
    __builtin_va_start(rest, format);
    int count = _IO_vfprintf(glibc_file(file), format, rest);
    __builtin_va_end(rest);
    return count;
}
size_t fwrite(const void *data, size_t size, size_t count, void *file) { return _IO_fwrite(data, size, count, glibc_file(file)); }

/* The numbers of sysconf's names differ; the JVM's own questions use none of bionic's. */
extern long __sysconf(int);
long sysconf(int name) {
    switch (name) {
        case 39: case 40: return __sysconf(30); /* page size */
        case 96: return __sysconf(83);          /* processors configured */
        case 97: return __sysconf(84);          /* processors online */
        case 98: return __sysconf(85);          /* pages of memory */
        case 99: return __sysconf(86);          /* pages available */
        default: return __sysconf(name);
    }
}

/* What only bionic has. */
extern int *__errno_location(void);
extern void abort(void);
extern size_t strlen(const char *);
extern char *strchr(const char *, int);
int *__errno(void) { return __errno_location(); }
int __android_log_vprint(int priority, const char *tag, const char *format, __builtin_va_list rest) { return 0; }
void __assert2(const char *file, int line, const char *function, const char *what) { abort(); }
size_t __strlen_chk(const char *text, size_t size) { return strlen(text); }
char *__strchr_chk(const char *text, int c, size_t size) { return strchr(text, c); }
int __system_property_get(const char *name, char *value) { *value = 0; return 0; }
void android_set_abort_message(const char *message) {}
