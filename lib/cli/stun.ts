/**
 * `stun`: one Binding request.
 *
 * @module
 */

import { formatTransportAddress, parseHostPort } from "../net/address.ts";
import { stunBinding } from "../stun/stun_binding.ts";
import { readArguments, readInteger, readWith } from "./arguments.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";

/** One line of help. */
export const STUN_USAGE = "stun SERVER[:PORT] [--tcp | --tls] [--timeout MS] [--json]";

/**
 * Runs the command; its exit code.
 *
 * @throws {UsageError} if the command line is wrong
 * @throws {NetworkError} if the server cannot be reached
 * @throws {NoResponseError} if it closes the connection without an answer
 * @throws {RefusedError} if it answers with an error
 * @throws {MalformedMessageError} if what it says over TCP is not STUN
 */
export async function stun(args: readonly string[], io: CliIo): Promise<number> {
  const { flags, values, operands } = readArguments(args, {
    flags: ["tcp", "tls", "json"],
    values: ["timeout"],
    operands: { min: 1, max: 1 },
  });
  if (flags.has("tcp") && flags.has("tls")) {
    throw new UsageError("--tcp and --tls exclude each other");
  }
  const transport = flags.has("tls") ? "tls" : flags.has("tcp") ? "tcp" : "udp";
  const timeoutMs = readInteger("timeout", values.get("timeout"), { min: 1, max: 600_000 }) ??
    DEFAULT_TIMEOUT_MS;
  readWith(() => parseHostPort(operands[0]!, 0));
  const deadline = AbortSignal.timeout(timeoutMs);
  const signal = AbortSignal.any([io.signal, deadline]);
  const binding = await stunBinding(operands[0]!, { transport, signal }).catch((error) => {
    if (error !== deadline.reason) throw error;
    io.err(`punchline: Cannot ask ${operands[0]}: no answer in ${timeoutMs} ms`);
    return undefined;
  });
  if (binding === undefined) return EXIT.timeout;
  const { server, local, mapped, otherAddress, rttMs } = binding;
  const text = {
    server: formatTransportAddress(server),
    transport,
    local: local === "unknown" ? null : formatTransportAddress(local),
    mapped: formatTransportAddress(mapped),
    otherAddress: otherAddress === undefined ? null : formatTransportAddress(otherAddress),
    rttMs,
  };
  if (flags.has("json")) {
    io.out(JSON.stringify(text));
    return EXIT.ok;
  }
  io.out(`${text.server} sees this host as ${text.mapped} over ${transport.toUpperCase()}`);
  io.out(`  local address   ${text.local ?? "not known"}`);
  io.out(`  other address   ${text.otherAddress ?? "none: the server does not serve RFC 5780"}`);
  io.out(`  round trip      ${rttMs.toFixed(1)} ms`);
  return EXIT.ok;
}

/** Shorter than RFC 8489's 39.5 s: somebody sits in front of the screen. */
const DEFAULT_TIMEOUT_MS = 10_000;
