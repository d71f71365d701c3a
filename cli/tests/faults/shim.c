/* Breaks one system call of a proxy that knows nothing of it: loaded into it by LD_PRELOAD, told what
 * to do by a file both sides map.
 *
 * A seccomp filter makes the kernel hand every call of the sockets' kind to the handler of SIGSYS,
 * whoever makes it: the C library, or a system call in the program's own text. The handler makes the
 * call itself, by the one instruction the filter lets pass, and sometimes something else.
 *
 * Only worker threads are looked at, and only descriptors that are sockets. What was broken stays so:
 * a socket that has ended reads nothing more. A call that does less than it could is followed by an
 * event of epoll, as the kernel would give one once the rest is there. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the registers of other machines are not known here"
#endif

enum kind { FAIL = 1, SHORT = 2, END = 3, AGAIN = 4 };

struct control {
	uint64_t at;    /* the call to be broken, counted from 1; 0 is none */
	uint64_t kind;
	uint64_t count; /* calls since `at` was set */
	uint64_t fired; /* 1: it was broken, 2: there is no such break for that call */
	uint64_t call;  /* which call that was */
};

enum { DESCRIPTORS = 1 << 16 };

struct known {
	uint8_t is_socket;
	uint8_t reads_nothing;
	uint8_t writes_nothing;
	int poll;
	struct epoll_event event;
};

static struct control *control;
static struct known known[DESCRIPTORS];

/* The one place whose calls the filter lets pass. */
__asm__(".globl weir_fault_call\n"
	".type weir_fault_call, @function\n"
	"weir_fault_call:\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	mov %r9, %r8\n"
	"	mov 8(%rsp), %r9\n"
	"	syscall\n"
	".globl weir_fault_called\n"
	"weir_fault_called:\n"
	"	ret\n");
long weir_fault_call(long call, long a, long b, long c, long d, long e, long f);
extern char weir_fault_called[];

static long real(long call, const long *args)
{
	return weir_fault_call(call, args[0], args[1], args[2], args[3], args[4], args[5]);
}

static struct known *of(long descriptor)
{
	return descriptor >= 0 && descriptor < DESCRIPTORS ? &known[descriptor] : NULL;
}

static int is_worker(void)
{
	char name[16] = "";
	const long args[6] = {PR_GET_NAME, (long)name};
	real(SYS_prctl, args);
	return strncmp(name, "weir-worker", 11) == 0;
}

/* The kernel tells once more that something can be done. */
static void wake(long descriptor)
{
	struct known *socket = of(descriptor);
	if (socket && socket->poll > 0) {
		const long args[6] = {socket->poll, EPOLL_CTL_MOD, descriptor, (long)&socket->event};
		real(SYS_epoll_ctl, args);
	}
}

enum side { NEITHER, READS, WRITES };

/* What the call does with which socket. */
static enum side side_of(long call, const long *args, long *descriptor)
{
	*descriptor = args[0];
	switch (call) {
	case SYS_read:
	case SYS_readv:
	case SYS_recvfrom:
	case SYS_recvmsg:
		return READS;
	case SYS_write:
	case SYS_writev:
	case SYS_sendto:
	case SYS_sendmsg:
		return WRITES;
	case SYS_splice: {
		struct known *from = of(args[0]);
		if (from && from->is_socket)
			return READS;
		*descriptor = args[2];
		return WRITES;
	}
	default:
		return NEITHER;
	}
}

/* The same call for one byte. */
static long one_byte(long call, const long *args)
{
	long less[6];
	memcpy(less, args, sizeof less);
	struct iovec one = {NULL, 1};
	struct msghdr message;
	const struct iovec *all = NULL;
	long count = 0;
	switch (call) {
	case SYS_read:
	case SYS_write:
	case SYS_recvfrom:
	case SYS_sendto:
		less[2] = args[2] > 1 ? 1 : args[2];
		return real(call, less);
	case SYS_splice:
		less[4] = 1;
		return real(call, less);
	case SYS_readv:
	case SYS_writev:
		all = (const struct iovec *)args[1];
		count = args[2];
		break;
	default:
		message = *(const struct msghdr *)args[1];
		all = message.msg_iov;
		count = (long)message.msg_iovlen;
	}
	while (count > 0 && all->iov_len == 0) {
		all++;
		count--;
	}
	if (count == 0)
		return real(call, args);
	one.iov_base = all->iov_base;
	if (call == SYS_readv || call == SYS_writev) {
		less[1] = (long)&one;
		less[2] = 1;
	} else {
		message.msg_iov = &one;
		message.msg_iovlen = 1;
		less[1] = (long)&message;
	}
	return real(call, less);
}

/* The kernel tells of what has ended, too. */
static void shut(long descriptor, int how)
{
	const long args[6] = {descriptor, how};
	real(SYS_shutdown, args);
}

/* The connection is gone. */
static void lose(long descriptor)
{
	struct known *socket = of(descriptor);
	socket->reads_nothing = socket->writes_nothing = 1;
	shut(descriptor, SHUT_RDWR);
}

static long break_stream(enum side side, long call, const long *args, long descriptor)
{
	struct known *socket = of(descriptor);
	switch (control->kind) {
	case FAIL:
		lose(descriptor);
		return -ECONNRESET;
	case END:
		socket->reads_nothing = 1;
		socket->writes_nothing |= side == WRITES;
		shut(descriptor, side == READS ? SHUT_RD : SHUT_RDWR);
		return side == READS ? 0 : -EPIPE;
	case SHORT: {
		long moved = one_byte(call, args);
		wake(descriptor);
		return moved;
	}
	default:
		wake(descriptor);
		return -EAGAIN;
	}
}

/* What is broken of calls that move no bytes; 0 if nothing is. */
static int break_other(long call, const long *args)
{
	static const int accepts[] = {0, ECONNABORTED, EMFILE, 0, EAGAIN};
	static const int connects[] = {0, ECONNREFUSED, EADDRNOTAVAIL, ENETUNREACH, 0};
	uint64_t kind = control->kind;
	switch (call) {
	case SYS_accept4:
		if (kind == AGAIN)
			wake(args[0]);
		return accepts[kind];
	case SYS_connect:
		return connects[kind];
	case SYS_socket:
		return kind == FAIL ? EMFILE : 0;
	case SYS_setsockopt:
		return kind == FAIL ? EINVAL : 0;
	case SYS_getsockname:
	case SYS_getpeername:
		return kind == FAIL ? ENOTCONN : 0;
	case SYS_shutdown:
		if (kind != FAIL)
			return 0;
		lose(args[0]);
		return ENOTCONN;
	default:
		return 0;
	}
}

/* A connection that could not be made is told by an option of its socket. */
static long break_getsockopt(const long *args)
{
	static const int errors[] = {0, ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT, 0};
	long result = real(SYS_getsockopt, args);
	int error = errors[control->kind];
	if (result != 0 || args[1] != SOL_SOCKET || args[2] != SO_ERROR || !error) {
		control->fired = 2;
		return result;
	}
	*(int *)args[3] = error;
	return 0;
}

static int is_due(long call)
{
	if (__atomic_load_n(&control->at, __ATOMIC_ACQUIRE) == 0)
		return 0;
	if (__atomic_add_fetch(&control->count, 1, __ATOMIC_ACQ_REL) != control->at)
		return 0;
	control->call = (uint64_t)call;
	__atomic_store_n(&control->fired, 1, __ATOMIC_RELEASE);
	return 1;
}

static long look(long call, const long *args)
{
	long descriptor = 0;
	enum side side = side_of(call, args, &descriptor);
	struct known *socket = of(descriptor);
	if (call != SYS_socket && (!socket || !socket->is_socket))
		return real(call, args);
	if (!is_worker())
		return real(call, args);
	int due = is_due(call);
	if (side != NEITHER) {
		if (socket->reads_nothing && side == READS)
			return 0;
		if (socket->writes_nothing && side == WRITES)
			return -EPIPE;
		return due ? break_stream(side, call, args, descriptor) : real(call, args);
	}
	if (!due)
		return real(call, args);
	if (call == SYS_getsockopt)
		return break_getsockopt(args);
	int error = break_other(call, args);
	if (error)
		return -error;
	control->fired = 2;
	return real(call, args);
}

/* Keeps in mind which descriptors are sockets, and how they are waited for. */
static void note(long call, const long *args, long result)
{
	struct known *socket;
	if ((call == SYS_socket || call == SYS_accept4) && (socket = of(result))) {
		memset(socket, 0, sizeof *socket);
		socket->is_socket = 1;
	} else if (call == SYS_close && (socket = of(args[0]))) {
		memset(socket, 0, sizeof *socket);
	} else if (call == SYS_epoll_ctl && result == 0 && (socket = of(args[2]))) {
		if (args[1] == EPOLL_CTL_DEL) {
			socket->poll = 0;
		} else {
			socket->poll = (int)args[0];
			socket->event = *(struct epoll_event *)args[3];
		}
	}
}

static void handle(int number, siginfo_t *info, void *context)
{
	(void)number;
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	long call = info->si_syscall;
	long args[6] = {registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
			registers[REG_R10], registers[REG_R8],  registers[REG_R9]};
	if (call == SYS_close) {
		note(call, args, 0); /* before the number can be another's */
		registers[REG_RAX] = real(call, args);
	} else if (call == SYS_epoll_ctl) {
		registers[REG_RAX] = real(call, args);
		note(call, args, registers[REG_RAX]);
	} else {
		registers[REG_RAX] = look(call, args);
		note(call, args, registers[REG_RAX]);
	}
}

static void filter(void)
{
	static const long calls[] = {
		SYS_read, SYS_readv, SYS_recvfrom, SYS_recvmsg, SYS_write, SYS_writev, SYS_sendto,
		SYS_sendmsg, SYS_splice, SYS_accept4, SYS_connect, SYS_socket, SYS_setsockopt,
		SYS_getsockopt, SYS_getsockname, SYS_getpeername, SYS_shutdown, SYS_close,
		SYS_epoll_ctl,
	};
	enum { CALLS = sizeof calls / sizeof calls[0] };
	struct sock_filter program[CALLS + 7];
	uint64_t after = (uint64_t)weir_fault_called;
	int at = 0;
	program[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (int i = 0; i < CALLS; i++)
		program[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], CALLS - i, 0);
	program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer));
	program[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)after, 0, 1);
	program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
	struct sock_fprog all = {(unsigned short)at, program};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all) != 0)
		_exit(99);
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("WEIR_FAULTS");
	if (!path)
		return;
	int file = open(path, O_RDWR | O_CLOEXEC);
	control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	if (file < 0 || control == MAP_FAILED)
		_exit(98);
	struct sigaction action = {0};
	action.sa_sigaction = handle;
	action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
	if (sigaction(SIGSYS, &action, NULL) != 0)
		_exit(97);
	filter();
}
