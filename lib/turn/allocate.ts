/**
 * Getting an allocation from one server: RFC 8656 §7.
 *
 * @module
 */

import { NetworkError, RefusedError } from "../base/errors.ts";
import type { TransportAddress } from "../net/address.ts";
import { alternateOf, type Outcome, type Target } from "../stun/alternate_server.ts";
import type { LongTermCredential } from "../stun/credentials.ts";
import type { StunMessage } from "../stun/message.ts";
import { errorOf, refusal } from "../stun/refusal.ts";
import { Conversation, type StunQuestion } from "../stun/transaction.ts";
import {
  allocateAttributes,
  type Allocation,
  type AllocationRequest,
  readAllocation,
} from "./allocation.ts";
import { type CarrierOptions, openCarrier } from "./carrier.ts";
import { TurnLink } from "./connection.ts";
import { ALLOCATE, REFRESH } from "./protocol.ts";
import { remedyFor } from "./remedy.ts";
import type { TurnTimings } from "./timings.ts";

/** How to reach a server, and what to tell it. */
export interface TurnClientOptions extends CarrierOptions {
  readonly credential?: LongTermCredential;
  readonly timings: TurnTimings;
}

/** An allocation, and the way to the server that has it. */
export interface Allocated {
  readonly server: Target;
  readonly allocation: Allocation;
  readonly link: TurnLink;
  readonly conversation: Conversation;
}

/**
 * Asks for an allocation, without mobility where the server has none. However the asking ends without one, the server is told to release what it may
 * have allocated.
 *
 * @throws {RefusedError} if the server refuses
 * @throws {NoResponseError} if it does not answer in time
 * @throws {MalformedMessageError} if what it says makes no sense
 * @throws {NetworkError} if the network does not carry the request
 */
export async function allocate(
  server: Target,
  request: AllocationRequest,
  options: TurnClientOptions,
): Promise<Outcome<Allocated>> {
  // RFC 8656 §7.4: another local port, where an earlier allocation is left on this one.
  for (let ports = 1;; ports++) {
    const outcome = await allocateOnce(server, request, options);
    if (outcome.kind === "immobile") {
      return await allocate(server, { ...request, mobility: false }, options);
    }
    if (outcome.kind !== "port taken") return outcome;
    if (options.local === undefined && ports < MAX_PORTS) continue;
    throw turnRefusal(outcome.response, server.address, ALLOCATING);
  }
}

/** The request that ends an allocation: RFC 8656 §8. */
export const RELEASE: StunQuestion = {
  method: REFRESH,
  attributes: [{ type: "LIFETIME", value: 0 }],
};

/** An error response as an error that knows a remedy. */
export function turnRefusal(
  response: StunMessage,
  server: TransportAddress,
  action: string,
): RefusedError {
  const remedy = remedyFor(errorOf(response, server).code);
  return refusal(response, { server, action, remedy });
}

/** RFC 8656 §19: 437 (Allocation Mismatch). */
export const ALLOCATION_MISMATCH = 437;

/** RFC 8016 §5: 405 (Mobility Forbidden). */
const MOBILITY_FORBIDDEN = 405;

type Once =
  | Outcome<Allocated>
  | { readonly kind: "port taken"; readonly response: StunMessage }
  | { readonly kind: "immobile" };

async function allocateOnce(
  server: Target,
  request: AllocationRequest,
  options: TurnClientOptions,
): Promise<Once> {
  const { address, hostname } = server;
  const { waitsMs, signal, credential } = options;
  const conversation = new Conversation(address, credential);
  const link = new TurnLink(await openCarrier(address, hostname, options));
  try {
    const { answer: response } = await conversation.ask(link.channel({ waitsMs, signal }), {
      method: ALLOCATE,
      attributes: allocateAttributes(request),
    });
    if (response.class === "success") {
      const allocation = readAllocation(response, address);
      return { kind: "answer", answer: { server, allocation, link, conversation } };
    }
    link.close();
    const alternate = alternateOf(response, hostname);
    if (alternate !== undefined) return { kind: "alternate", alternate };
    const { code } = errorOf(response, address);
    if (code === ALLOCATION_MISMATCH) return { kind: "port taken", response };
    if (code === MOBILITY_FORBIDDEN && request.mobility) return { kind: "immobile" };
    throw turnRefusal(response, address, ALLOCATING);
  } catch (error) {
    if (!(error instanceof RefusedError)) await sendRelease(link, conversation);
    link.close();
    throw error;
  }
}

/** Waits for no answer: who gave up waits no longer. */
async function sendRelease(link: TurnLink, conversation: Conversation): Promise<void> {
  try {
    await link.send(conversation.encode(RELEASE));
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error; // the way to the server is gone
  }
}

const ALLOCATING = "allocate a relayed address";

/** RFC 8656 §7.4 advises three tries or fewer. */
const MAX_PORTS = 3;
