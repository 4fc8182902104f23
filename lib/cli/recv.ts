/**
 * `recv`: the files that somebody sends whose ticket this is.
 *
 * @module
 */

import type { PeerConnection } from "../peer/connection.ts";
import { Peer } from "../peer/peer.ts";
import type { ExistingPolicy, NextConnection } from "../transfer/mod.ts";
import { readArguments } from "./arguments.ts";
import { readTicket } from "./connect.ts";
import { ConnectionEvents } from "./connection_events.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { openHandDesk } from "./manual_signaling.ts";
import { tellConnected, tellFailure } from "./peer_events.ts";
import { PEER_ARGUMENTS, PEER_USAGE, readConnectTimings, readPeerOptions } from "./peer_options.ts";
import { receiveFiles } from "./receive_files.ts";
import { FILES_PROTOCOL } from "./send.ts";

/** One line of help. */
export const RECV_USAGE =
  `recv TICKET [--to FOLDER] [--overwrite | --rename] [--timeout MS] ${PEER_USAGE}`;

/** Runs the command; its exit code. */
export async function recv(args: readonly string[], io: CliIo): Promise<number> {
  const given = readArguments(args, {
    ...PEER_ARGUMENTS,
    flags: [...PEER_ARGUMENTS.flags, "overwrite", "rename"],
    values: [...PEER_ARGUMENTS.values, "to", "timeout"],
    operands: { min: 1, max: 1 },
  });
  const { flags, values, operands } = given;
  const ticket = readTicket(operands[0]!);
  const asJson = flags.has("json");
  const events = new ConnectionEvents(io, { asJson, isStdoutFree: true });
  const desk = openHandDesk(given, io, events, { ticket });
  const options = await readPeerOptions(given, io, desk);
  await using peer = await Peer.open({
    ...options,
    ...readConnectTimings(values),
    listen: false,
    protocol: FILES_PROTOCOL,
  });
  let last: PeerConnection | undefined;
  const next: NextConnection = async ({ signal }) => {
    last = await peer.connect(ticket, { signal });
    tellConnected(last, events);
    return last;
  };
  try {
    const command = { folder: values.get("to") ?? ".", existing: existingPolicy(flags), asJson };
    const code = await receiveFiles(next, command, io);
    await last?.[Symbol.asyncDispose]();
    return io.signal.aborted ? EXIT.interrupted : code;
  } catch (error) {
    io.signal.throwIfAborted();
    const demandsDirect = options.strategies?.includes("relay") === false;
    return tellFailure(error, events, io, { demandsDirect });
  }
}

function existingPolicy(flags: ReadonlySet<string>): ExistingPolicy {
  if (flags.has("overwrite") && flags.has("rename")) {
    throw new UsageError("--overwrite and --rename exclude each other");
  }
  return flags.has("overwrite") ? "overwrite" : flags.has("rename") ? "rename" : "refuse";
}
