/**
 * The receiver's part of the negotiation: reads an offer and checks it while it arrives, tells the sender what of it is here
 * already, and checks that the sender's plan is about nothing else.
 *
 * @module
 */

import { RunningHash } from "../base/crypto.ts";
import { malformed } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import type { TcpConnection } from "../net/network.ts";
import { TransferError } from "./files.ts";
import type { Manifest, ManifestEntry, SkippedEntry } from "./manifest.ts";
import {
  encodeTransferMessage,
  type HeldEntry,
  inMessages,
  MAX_HELD_BYTES,
  MAX_LIST_BYTES,
  OtherVersionError,
  type PlanStep,
  type RefusalReason,
  VERSION,
} from "./message.ts";
import type { TransferMessageReader } from "./message_reader.ts";
import { checkLinks, ManifestChecker, MAX_MANIFEST_BYTES, type OfferLimits } from "./paths.ts";
import type { ProgressMeter } from "./progress.ts";

/** An offer that breaks no rule. */
export interface Offer {
  readonly manifest: Manifest;
  readonly skipped: readonly SkippedEntry[];
  /** The same for the same manifest. */
  readonly digest: Uint8Array;
}

/**
 * Reads OFFER and what follows, up to OFFERED.
 *
 * @throws {TransferError} `version` if the other side is of another version, `unacceptable` if the offer breaks a rule
 * @throws as {@linkcode TransferMessageReader.next}
 */
export async function readOffer(
  reader: TransferMessageReader,
  limits: OfferLimits = {},
): Promise<Offer> {
  const { maxManifestBytes = MAX_MANIFEST_BYTES } = limits;
  await expectVersion(reader);
  const checker = new ManifestChecker(limits);
  const digest = new RunningHash("sha256");
  const manifest: ManifestEntry[] = [];
  const skipped: SkippedEntry[] = [];
  for (let bytes = 0;;) {
    const message = await reader.next(EXPECTED);
    if (message instanceof Uint8Array) throw malformed("type", "data was not expected");
    if (message.type === "entries") {
      for (const entry of message.entries) {
        checker.add(entry);
        manifest.push(entry);
      }
    } else if (message.type === "skipped") {
      for (const each of message.skipped) {
        checker.countEntry();
        skipped.push(each);
      }
    } else if (message.type === "offered") {
      const isAll = message.entries === manifest.length && message.skipped === skipped.length;
      if (!isAll) throw malformed("offered", "it does not match the entries");
      checker.end(skipped.length > 0);
      checkLinks(manifest);
      return { manifest, skipped, digest: digest.digest() };
    }
    const encoded = encodeTransferMessage(message);
    bytes += encoded.length;
    if (bytes > maxManifestBytes) throw tooLong(maxManifestBytes);
    digest.update(encoded);
  }
}

/** An offer that was accepted. */
export interface AcceptedOffer extends Offer {
  /** The paths of the entries on this system, where they differ from the manifest. */
  readonly renamed: ReadonlyMap<number, string>;
  readonly meter: ProgressMeter;
  /** The places of the entries that are complete. */
  readonly done: Set<number>;
  /**
   * The paths in the manifest of what is hidden or a program, and was allowed only because something of its name is there
   * already, which stays.
   */
  readonly guarded: ReadonlySet<string>;
}

/** What this side has of an entry. */
export interface Found {
  /** Where it goes, relative to the target folder. */
  readonly path: string;
  /** What HELD says of it; nothing if nothing of it is there. */
  readonly held?: HeldEntry;
  /** The hash of the part, if there is one. */
  readonly hash?: RunningHash;
}

/** What is to be received, by the places of the entries. */
export interface ReceivePlan {
  readonly offer: AcceptedOffer;
  readonly steps: readonly PlanStep[];
  readonly found: ReadonlyMap<number, Found>;
  readonly refused: Map<number, RefusalReason>;
}

/** Sends HELD, as often as it takes, and ANSWER. */
export async function sendHeld(
  connection: TcpConnection,
  found: readonly Found[],
  refused: ReadonlyMap<number, RefusalReason>,
): Promise<void> {
  const held: HeldEntry[] = [
    ...found.flatMap(({ held }) => held ?? []),
    ...[...refused.keys()].map((index) => ({ index, state: "refused" }) as const),
  ];
  for (const some of inMessages(held, () => MAX_HELD_BYTES)) {
    await writeAll(connection, encodeTransferMessage({ type: "held", held: some }));
  }
  await writeAll(connection, encodeTransferMessage({ type: "answer", held: held.length }));
}

/** Checks that the plan keeps and continues only what this side has. */
export function checkPlan(
  steps: readonly PlanStep[],
  manifest: Manifest,
  { found, refused }: Pick<ReceivePlan, "found" | "refused">,
): void {
  const isConsistent = steps.length === manifest.length && steps.every((step, index) => {
    const held = found.get(index)?.held;
    if (refused.has(index) || manifest[index]!.kind !== "file") return step === "keep";
    if (held === undefined) return step === "send";
    if (step === "compare" || held.state === "compare") return step === held.state;
    if (step === "keep") return held.state === "done" || held.state === "whole";
    if (step === "send") return held.state !== "done";
    return held.state === "part";
  });
  if (!isConsistent) throw malformed("plan", "it does not match the answer");
}

/** How many bytes of an entry need not be sent. */
export function bytesHeld(step: PlanStep, size: number, found: Found | undefined): number {
  if (step === "keep" || step === "compare") return size;
  const held = found?.held;
  return step === "continue" && held !== undefined && "length" in held ? held.length : 0;
}

async function expectVersion(reader: TransferMessageReader): Promise<void> {
  try {
    await reader.expectOffer();
  } catch (error) {
    if (!(error instanceof OtherVersionError)) throw error;
    const { version } = error;
    throw new TransferError(
      `Cannot receive: the sender speaks version ${version} of the file protocol, and the receiver ` +
        `version ${VERSION}`,
      "version",
      {
        cause: error,
        remedy: `Update punchline at the ${version < VERSION ? "sender" : "receiver"}`,
      },
    );
  }
}

function tooLong(max: number): TransferError {
  return new TransferError(
    `Cannot accept the offer: its list of files is longer than the ${max} bytes allowed`,
    "unacceptable",
    { remedy: "Ask the sender to send fewer files at a time" },
  );
}

const EXPECTED = { entries: MAX_LIST_BYTES, skipped: MAX_LIST_BYTES, offered: 8 };
