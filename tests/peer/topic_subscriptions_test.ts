import { assertEquals, assertRejects } from "@std/assert";
import { TopicSubscriptions } from "../../lib/peer/pools.ts";
import { RefusedError } from "../../lib/base/errors.ts";
import { systemNetwork as network } from "../../lib/net/system.ts";
import { ScriptedTransport } from "../signal/scripted_transport.ts";

const TOPICS = ["A", "B", "C"].map((letter) => `${letter.repeat(21)}A`);
const { signal } = new AbortController();

Deno.test("a refused topic does not affect the others, and is requested again", async () => {
  const transport = new ScriptedTransport(refuse(TOPICS[2]!));
  await using signaling = await transport.open({ network });
  const subscriptions = new TopicSubscriptions(signaling, () => {});
  const refused = await subscriptions.renew(TOPICS, signal);
  assertEquals([refused.length, signaling.topics], [1, 2]);
  transport.confirm = () => Promise.resolve();
  assertEquals(await subscriptions.renew(TOPICS, signal), []);
  assertEquals(signaling.topics, 3);
});

Deno.test("renew() fails if every topic is refused", async () => {
  await using signaling = await new ScriptedTransport(refuse(...TOPICS)).open({ network });
  const subscriptions = new TopicSubscriptions(signaling, () => {});
  await assertRejects(() => subscriptions.renew(TOPICS, signal), RefusedError);
});

Deno.test("old topics are left even if new ones are refused", async () => {
  const transport = new ScriptedTransport();
  await using signaling = await transport.open({ network });
  const subscriptions = new TopicSubscriptions(signaling, () => {});
  await subscriptions.renew(TOPICS.slice(0, 2), signal);
  transport.confirm = refuse(TOPICS[2]!);
  const refused = await subscriptions.renew(TOPICS.slice(1), signal);
  assertEquals([refused.length, signaling.topics], [1, 1]);
});

function refuse(...topics: string[]) {
  return (topic: string) =>
    topics.includes(topic)
      ? Promise.reject(new RefusedError("Cannot subscribe: full", 503))
      : Promise.resolve();
}
