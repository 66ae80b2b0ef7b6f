/* Runs a program as on a processor with AVX2 and nothing later: its CPUID instructions fault, and are answered without
 * AVX-512, VNNI and AMX. No library is asked, so it holds for ONNX Runtime, NumPy and glibc alike. Linux on x86-64,
 * where the kernel can make CPUID fault (`grep cpuid_fault /proc/cpuinfo`).
 *
 *     cc -O2 -shared -fPIC -o plain_avx2.so examples/plain_avx2.c
 *     LD_PRELOAD=./plain_avx2.so gsvexport bench dist/alice-x86-64-int8.gsv --baseline source
 *
 * What AVX2 machines were built for has other clocks and caches: this measures the kernels and not such a machine. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

static long allow_cpuid(long on) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, on); }

static void answer(int number, siginfo_t *info, void *context)
{
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *at = (const uint8_t *)r[REG_RIP];
    uint32_t leaf = r[REG_RAX], part = r[REG_RCX], a, b, c, d;
    (void)info;
    if (at[0] != 0x0f || at[1] != 0xa2) { /* another fault: the program's own */
        signal(number, SIG_DFL);
        return;
    }
    allow_cpuid(1);
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(part));
    allow_cpuid(0);
    if (leaf == 7 && part == 0) {
        b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31)); /* AVX-512 */
        c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));                                 /* AVX-512, its VNNI */
        d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));              /* AVX-512, AMX */
    }
    if (leaf == 7 && part == 1) {
        a &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23)); /* AVX-VNNI, BF16, AMX FP16, AVX-IFMA */
        d &= ~(BIT(4) | BIT(5) | BIT(10));           /* AVX-VNNI-INT8 and -INT16 */
    }
    r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d;
    r[REG_RIP] += 2;
}

__attribute__((constructor)) static void start(void)
{
    struct sigaction action = {0};
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, 0);
    if (allow_cpuid(0))
        perror("this kernel cannot make CPUID fault");
}
