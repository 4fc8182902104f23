/**
 * `stun`: sends one binding request to a STUN server, and prints the address that it saw.
 *
 * @module
 */

import { Deadline } from "../base/timers.ts";
import { formatTransportAddress } from "../net/address.ts";
import type { StunBinding } from "../stun/client.ts";
import { parseStunServer } from "../stun/uri.ts";
import { stunBinding, type StunBindingOptions } from "../stun/stun_binding.ts";
import { readCommand, readTimeoutMs, readWith } from "./arguments.ts";
import { type CliIo, EXIT, printFailure, UsageError } from "./io.ts";
import { waitFor, waitOver } from "./screen.ts";
import { limitText } from "./status_engine.ts";

/**
 * Runs the command; returns its exit code.
 *
 * @throws {UsageError} if the command line is wrong
 * @throws {NetworkError} if the server cannot be reached
 * @throws {NoResponseError} if the server closes the connection without an answer
 * @throws {RefusedError} if the server answers with an error
 * @throws {MalformedMessageError} if the server answers over TCP with something other than STUN
 */
export async function stun(args: readonly string[], io: CliIo): Promise<number> {
  const { flags, values, operands } = readCommand("stun", args);
  if (flags.has("tcp") && flags.has("tls")) {
    throw new UsageError("--tcp cannot be combined with --tls");
  }
  const [name] = operands as [string];
  const asked = readWith(() => parseStunServer(name)).transport;
  const transport = flags.has("tls") ? "tls" : flags.has("tcp") ? "tcp" : asked ?? "udp";
  const timeoutMs = readTimeoutMs(values.get("timeout"), MAX_TIMEOUT_MS) ?? DEFAULT_TIMEOUT_MS;
  waitFor(io, `Asking ${name} over ${transport.toUpperCase()}`, timeoutMs);
  const binding = await bindingInTime(name, transport, timeoutMs, io.signal);
  waitOver(io);
  if (binding === undefined) {
    const message = `Cannot reach ${name}: no answer within ${limitText(timeoutMs)}`;
    printFailure({ message, remedy: REMEDIES[transport] }, io);
    return EXIT.timeout;
  }
  const { server, local, mapped, otherAddress, rttMs } = binding;
  const report = {
    server: formatTransportAddress(server),
    transport,
    local: local === "unknown" ? null : formatTransportAddress(local),
    mapped: formatTransportAddress(mapped),
    otherAddress: otherAddress === undefined ? null : formatTransportAddress(otherAddress),
    rttMs,
  };
  if (flags.has("json")) {
    io.out(JSON.stringify(report));
    return EXIT.ok;
  }
  io.out(`${report.server} sees this machine as ${report.mapped} over ${transport.toUpperCase()}`);
  io.out(`  local address   ${report.local ?? "unknown"}`);
  io.out(
    `  other address   ${report.otherAddress ?? "none: the server does not support RFC 5780"}`,
  );
  io.out(`  round trip      ${rttMs.toFixed(1)} ms`);
  return EXIT.ok;
}

/** `undefined` if the server has not answered in time. */
async function bindingInTime(
  name: string,
  transport: StunBindingOptions["transport"],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<StunBinding | undefined> {
  using deadline = new Deadline(timeoutMs, signal);
  try {
    return await stunBinding(name, { transport, signal: deadline.signal });
  } catch (error) {
    if (signal.aborted || error !== deadline.signal.reason) throw error;
    return undefined;
  }
}

const REMEDIES: Readonly<Record<NonNullable<StunBindingOptions["transport"]>, string>> = {
  udp: "Check the address, or try --tcp: a firewall may block UDP",
  tcp: "Check the address, and that the server serves STUN over TCP",
  tls: "Check the address, and that the server serves STUN over TLS",
};

/** Shorter than the 39.5 s of RFC 8489 §6.2.1: a person is waiting. */
const DEFAULT_TIMEOUT_MS = 10_000;

/** Chosen by us: ten minutes, far longer than any answer takes. */
const MAX_TIMEOUT_MS = 600_000;
