/**
 * `delay_frames.ts DELAY_MS PID NAME PID NAME`: is a wire between two network namespaces, those of the processes, with
 * a TAP device of that name at each end. Frames take the delay each way. Prints `ready`, and runs until it is killed.
 *
 * @module
 */

import {
  flags,
  IFF_NO_PI,
  IFF_TAP,
  interfaceRequest,
  TUNSETIFF,
} from "../../../lab/kernel/interface_structs.ts";
import {
  CLONE_NEWNET,
  isReadable,
  type Libc,
  O_CLOEXEC,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  openLibc,
  pollDescriptors,
} from "../../../lab/kernel/libc.ts";

/** A frame on its way. */
interface Frame {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly to: number;
  readonly dueMs: number;
}

/** Ours: above the largest that a device with an MTU of 1500 gives. */
const MAX_FRAME_BYTES = 2048;

/** Ours: before the programs at its ends, since it takes little and they are not to wait for it. */
const NICE = -15;

const [delayText, pidA, nameA, pidB, nameB] = Deno.args;
using libc = openLibc();
const ends = [openTap(libc, pidA!, nameA!), openTap(libc, pidB!, nameB!)];
libc.setTimerSlack(1);
libc.setNice(NICE); // where that is not allowed, frames are late only while programs need all cores
Deno.stdout.writeSync(new TextEncoder().encode("ready\n"));
carry(libc, ends, Number(delayText));

function carry(libc: Libc, ends: readonly number[], delayMs: number): never {
  const descriptors = pollDescriptors(ends);
  const buffer = new Uint8Array(MAX_FRAME_BYTES);
  const onTheWay: Frame[] = []; // all take as long: the first that came is the first that is due
  while (true) {
    const [next] = onTheWay;
    libc.ppoll(descriptors, next && Math.max(0, next.dueMs - performance.now()));
    for (const [index, from] of ends.entries()) {
      if (!isReadable(descriptors, index)) continue;
      for (let length; (length = libc.read(from, buffer)) > 0;) {
        const to = ends[1 - index]!;
        onTheWay.push({ bytes: buffer.slice(0, length), to, dueMs: performance.now() + delayMs });
      }
    }
    while (onTheWay[0] !== undefined && onTheWay[0].dueMs <= performance.now()) {
      const { to, bytes } = onTheWay.shift()!;
      libc.write(to, bytes); // what a full queue drops is lost, as on other wires
    }
  }
}

function openTap(libc: Libc, pid: string, name: string): number {
  const check = (result: number, action: string): number => {
    if (result >= 0) return result;
    throw new Error(`Cannot wire ${name}: ${action}: ${libc.errorMessage()}`);
  };
  const open = (path: string) => check(libc.open(path, O_RDONLY | O_CLOEXEC), `open ${path}`);
  const home = open("/proc/thread-self/ns/net");
  const there = open(`/proc/${pid}/ns/net`);
  check(libc.setns(there, CLONE_NEWNET), "enter namespace");
  const tap = check(libc.open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), "open TAP");
  check(libc.ioctl(tap, TUNSETIFF, interfaceRequest(name, flags(IFF_TAP | IFF_NO_PI))), "make TAP");
  check(libc.setns(home, CLONE_NEWNET), "return to own namespace");
  for (const fd of [home, there]) check(libc.close(fd), "close");
  return tap;
}
