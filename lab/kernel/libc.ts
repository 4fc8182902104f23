/**
 * The system calls that Deno lacks: network namespaces, TUN devices, and waiting for several
 * file descriptors with a timeout finer than a millisecond. Linux only; needs `--allow-ffi`.
 *
 * All calls are synchronous and run on the calling thread, as `setns` and `unshare` require.
 *
 * @module
 */

/** Functions of the C library. They return -1 on failure; `errorMessage()` then returns why. */
export interface Libc extends Disposable {
  open(path: string, flags: number): number;
  close(fd: number): number;
  read(fd: number, buffer: Uint8Array<ArrayBuffer>): number;
  write(fd: number, bytes: Uint8Array<ArrayBuffer>): number;
  /** With a structure as argument. */
  ioctl(fd: number, request: number, argument: Uint8Array<ArrayBuffer>): number;
  socket(domain: number, type: number): number;
  unshare(flags: number): number;
  setns(fd: number, type: number): number;
  /** Sets how late timers of this thread may be; `prctl(PR_SET_TIMERSLACK)`. */
  setTimerSlack(nanoseconds: number): number;
  /** Sets the priority of this thread, higher for lower numbers; only root may raise it; `setpriority`. */
  setNice(nice: number): number;
  setNonBlocking(fd: number): number;
  /**
   * Waits until at least one of the `pollfd` structures is ready; returns how many are.
   *
   * @param timeoutMs may have a fraction; `undefined` waits indefinitely
   */
  ppoll(descriptors: Int32Array<ArrayBuffer>, timeoutMs: number | undefined): number;
  /** The reason of the last failure on this thread, such as `Permission denied`. */
  errorMessage(): string;
}

/**
 * Opens the C library.
 *
 * @throws {Error} if there is none, as on systems other than Linux with glibc
 */
export function openLibc(): Libc {
  const library = Deno.dlopen("libc.so.6", SYMBOLS);
  const { symbols } = library;
  const timespec = new BigInt64Array(2);
  return {
    open: (path, flags) => symbols.open(cString(path), flags),
    close: (fd) => symbols.close(fd),
    read: (fd, buffer) => Number(symbols.read(fd, buffer, BigInt(buffer.length))),
    write: (fd, bytes) => Number(symbols.write(fd, bytes, BigInt(bytes.length))),
    ioctl: (fd, request, argument) => symbols.ioctl(fd, BigInt(request), argument),
    socket: (domain, type) => symbols.socket(domain, type, 0),
    unshare: (flags) => symbols.unshare(flags),
    setns: (fd, type) => symbols.setns(fd, type),
    setTimerSlack: (nanoseconds) =>
      symbols.prctl(PR_SET_TIMERSLACK, BigInt(nanoseconds), 0n, 0n, 0n),
    setNice: (nice) => symbols.setpriority(PRIO_PROCESS, 0, nice),
    setNonBlocking: (fd) => symbols.fcntl(fd, F_SETFL, O_NONBLOCK),
    ppoll: (descriptors, timeoutMs) => {
      if (timeoutMs !== undefined) {
        const seconds = Math.floor(timeoutMs / 1000);
        timespec[0] = BigInt(seconds);
        timespec[1] = BigInt(Math.ceil((timeoutMs - seconds * 1000) * 1e6));
      }
      const count = BigInt(descriptors.length / POLLFD_WORDS);
      return symbols.ppoll(descriptors, count, timeoutMs === undefined ? null : timespec, null);
    },
    errorMessage: () => {
      const errno = new Deno.UnsafePointerView(symbols.__errno_location()!).getInt32();
      return new Deno.UnsafePointerView(symbols.strerror(errno)!).getCString();
    },
    [Symbol.dispose]: () => library.close(),
  };
}

/** The `pollfd` structures that wait for input on these descriptors. */
export function pollDescriptors(fds: readonly number[]): Int32Array<ArrayBuffer> {
  return new Int32Array(fds.flatMap((fd) => [fd, POLLIN]));
}

/** Whether `ppoll` found input, or the end of it, at the descriptor with this index. */
export function isReadable(descriptors: Int32Array<ArrayBuffer>, index: number): boolean {
  // The second word holds `events` in its lower half and `revents` in its upper.
  return descriptors[index * POLLFD_WORDS + 1]! >>> 16 !== 0;
}

/** open(2) and fcntl(2). */
export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;

/** socket(2). */
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;

/** unshare(2), setns(2). */
export const CLONE_NEWNET = 0x40000000;

function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

const SYMBOLS = {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  unshare: { parameters: ["i32"], result: "i32" },
  setns: { parameters: ["i32", "i32"], result: "i32" },
  prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
  setpriority: { parameters: ["i32", "i32", "i32"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  ppoll: { parameters: ["buffer", "u64", "buffer", "buffer"], result: "i32" },
  __errno_location: { parameters: [], result: "pointer" },
  strerror: { parameters: ["i32"], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Eight bytes: the descriptor, the requested events and the returned events. */
const POLLFD_WORDS = 2;
const POLLIN = 1;
const PRIO_PROCESS = 0;
const F_SETFL = 4;
const PR_SET_TIMERSLACK = 29;
