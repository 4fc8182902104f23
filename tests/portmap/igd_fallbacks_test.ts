// Every rule of the fallback table, with a gateway that answers with the fault.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { MappingRefusedError, type MappingRequest } from "../../lib/portmap/mapper.ts";
import {
  type FakeIgd,
  type FakeIgdOptions,
  WAN_IP_1,
  WAN_IP_2,
  WAN_PPP_1,
} from "./fake_gateway/fake_igd.ts";
import type { HttpReply } from "./fake_gateway/http_server.ts";
import type { SoapCall } from "./fake_gateway/igd_table.ts";
import { faultXml } from "./fake_gateway/igd_xml.ts";
import { HOST_IP, TCP_8080 } from "./fixtures.ts";
import { atIgdHome } from "./igd_home.ts";

/** The behaviour of a device, and the result to expect. */
interface FallbackCase {
  readonly name: string;
  readonly services?: FakeIgdOptions["services"];
  readonly request?: Partial<MappingRequest>;
  /** The answer to AddPortMapping and AddAnyPortMapping; `undefined` stands for the usual one. */
  readonly onAdd: (call: SoapCall, index: number) => HttpReply | undefined;
  readonly prepare?: (igd: FakeIgd) => void;
  readonly expect: (outcome: MappedBy) => void;
}

interface MappedBy {
  readonly igd: FakeIgd;
  /** The requests in order: action, external port, lease, description. */
  readonly asked: readonly (readonly [string, number, number, string])[];
  readonly externalPort: number;
  readonly lifetimeSeconds: number;
}

const RESET: HttpReply = { kind: "raw", pieces: [], end: "reset" };
const HANG_UP: HttpReply = { kind: "raw", pieces: [], end: "close" };

function once(reply: HttpReply): FallbackCase["onAdd"] {
  return (_, index) => index === 0 ? reply : undefined;
}

function unlessPermanent(reply: HttpReply): FallbackCase["onAdd"] {
  return ({ values }) => values.NewLeaseDuration === "0" ? undefined : reply;
}

function expectPermanent({ lifetimeSeconds, asked }: MappedBy): void {
  assertEquals(lifetimeSeconds, Infinity);
  assertEquals(asked.at(-1)?.[2], 0);
}

function expectOtherPort({ externalPort, asked }: MappedBy): void {
  assert(externalPort >= 49_152);
  assertEquals(asked.at(-1)?.[1], externalPort);
}

function expectSame({ asked, externalPort }: MappedBy): void {
  assertEquals([asked.length, externalPort], [2, 8080]);
  assertEquals(asked[0], asked[1]);
}

function putOther(
  igd: FakeIgd,
  over: { internalClient?: string; description?: string } = {},
): void {
  igd.table.put({
    protocol: "TCP",
    externalPort: 8080,
    internalClient: "192.168.1.77",
    internalPort: 8080,
    description: "other",
    leaseSeconds: 0,
    ...over,
  });
}

const CASES: readonly FallbackCase[] = [
  ...[402, 404, 501, 600, 601, 725].map((code): FallbackCase => ({
    name: `${code} for a finite lease: a permanent one`,
    onAdd: unlessPermanent(faultXml(code)),
    expect: expectPermanent,
  })),
  {
    name: "402 for a permanent lease: a finite one",
    request: { lifetimeSeconds: 0xffff_ffff },
    onAdd: ({ values }) => Number(values.NewLeaseDuration) <= 604_800 ? undefined : faultXml(402),
    expect: ({ lifetimeSeconds }) => assertEquals(lifetimeSeconds, 604_800),
  },
  ...[402, 600, 605].map((code): FallbackCase => ({
    name: `${code} for a description: a plain one`,
    onAdd: ({ values }) =>
      values.NewPortMappingDescription === "punchline" ? undefined : faultXml(code),
    expect: ({ asked }) => assertEquals(asked.at(-1)?.[3], "punchline"),
  })),
  ...[501, 713, 730].map((code): FallbackCase => ({
    name: `${code} once: a retry`,
    onAdd: once(faultXml(code)),
    expect: expectSame,
  })),
  {
    name: "501 for an unsuitable port: another",
    onAdd: ({ values }) => Number(values.NewExternalPort) < 49_152 ? faultXml(501) : undefined,
    expect: expectOtherPort,
  },
  ...[601, 606].map((code): FallbackCase => ({
    name: `${code} for a privileged port: an unprivileged one`,
    request: { externalPort: 80 },
    onAdd: ({ values }) => Number(values.NewExternalPort) < 1024 ? faultXml(code) : undefined,
    expect: expectOtherPort,
  })),
  ...[716, 724, 732, 733].map((code): FallbackCase => ({
    name: `${code}: the internal port as the external one`,
    request: { externalPort: 9000 },
    onAdd: ({ values }) => values.NewExternalPort === "8080" ? undefined : faultXml(code),
    expect: ({ externalPort }) => assertEquals(externalPort, 8080),
  })),
  ...[718, 729, 731].map((code): FallbackCase => ({
    name: `${code}: another port`,
    onAdd: ({ values }) => Number(values.NewExternalPort) < 49_152 ? faultXml(code) : undefined,
    expect: expectOtherPort,
  })),
  {
    name: "718 again and again: up to four other ports",
    onAdd: (_, index) => index < 5 ? faultXml(718) : undefined,
    expect: ({ asked }) => assertEquals(new Set(asked.map(([, port]) => port)).size, 5),
  },
  {
    name: "a port that another host has on WANIPConnection:2: AddAnyPortMapping",
    services: [WAN_IP_2],
    prepare: putOther,
    onAdd: () => undefined,
    expect: ({ asked, externalPort }) => {
      assertEquals(asked.map(([action]) => action), ["AddAnyPortMapping"]);
      assertEquals(externalPort, 8081);
    },
  },
  ...[401, 402, 403, 501, 602].map((code): FallbackCase => ({
    name: `${code} for AddAnyPortMapping: AddPortMapping with another port`,
    services: [WAN_IP_2],
    prepare: putOther,
    onAdd: ({ action }) => action === "AddAnyPortMapping" ? faultXml(code) : undefined,
    expect: expectOtherPort,
  })),
  {
    name: "a reset for AddAnyPortMapping: AddPortMapping with another port",
    services: [WAN_IP_2],
    prepare: putOther,
    onAdd: ({ action }) => action === "AddAnyPortMapping" ? RESET : undefined,
    expect: expectOtherPort,
  },
  {
    name: "718 for a description that another mapping has: another description",
    onAdd: ({ values }) => values.NewPortMappingDescription === "test" ? faultXml(718) : undefined,
    expect: ({ asked, externalPort }) => {
      assertEquals(asked.map(([, , , description]) => description), ["test", "test tcp 8080"]);
      assertEquals(externalPort, 8080);
    },
  },
  ...["test", "PCP MAP"].map((description): FallbackCase => ({
    name: `a port that this host has as ${description} already: another port, and it is left alone`,
    prepare: (igd) => putOther(igd, { internalClient: HOST_IP, description }),
    onAdd: () => undefined,
    expect: (outcome) => {
      assert(!outcome.igd.actions.includes("DeletePortMapping"));
      assertEquals(outcome.igd.table.entries[0]?.description, description);
      assertEquals(outcome.asked.length, 1);
      expectOtherPort(outcome);
    },
  })),
  {
    name: "402 for more than ten minutes: ten minutes",
    onAdd: ({ values }) =>
      Number(values.NewLeaseDuration) > 0 && Number(values.NewLeaseDuration) <= 600
        ? undefined
        : faultXml(402),
    expect: ({ lifetimeSeconds }) => assertEquals(lifetimeSeconds, 600),
  },
  ...[401, 403, 404, 602, 606, 714, 715, 726, 727].map((code): FallbackCase => ({
    name: `${code} from one connection: the next one`,
    services: [WAN_IP_1, WAN_PPP_1],
    onAdd: ({ serviceType }) => serviceType === WAN_IP_1.serviceType ? faultXml(code) : undefined,
    expect: ({ igd }) => {
      const last = igd.soapCalls.findLast(({ action }) => action === "AddPortMapping");
      assertEquals(last?.serviceType, WAN_PPP_1.serviceType);
    },
  })),
  ...[401, 403, 404, 405, 500].map((status): FallbackCase => ({
    name: `HTTP ${status} from one connection: the next one`,
    services: [WAN_IP_1, WAN_PPP_1],
    onAdd: ({ serviceType }) =>
      serviceType === WAN_IP_1.serviceType
        ? { kind: "response", status, body: "<html>no</html>" }
        : undefined,
    expect: ({ igd }) => assertEquals(igd.table.entries.length, 1),
  })),
  ...[503, 500].map((status): FallbackCase => ({
    name: `HTTP ${status} once: a retry`,
    onAdd: once({ kind: "response", status, body: "" }),
    expect: expectSame,
  })),
  { name: "a reset once: a retry", onAdd: once(RESET), expect: expectSame },
  {
    name: "an unknown code once: a retry",
    onAdd: once(faultXml(899)),
    expect: expectSame,
  },
];

for (const { name, services, request, onAdd, prepare, expect } of CASES) {
  Deno.test(`map() falls back after ${name}`, async () => {
    let adds = 0;
    const onSoap = (call: SoapCall) =>
      call.action.startsWith("Add") ? onAdd(call, adds++) : undefined;
    await atIgdHome({ services, onSoap }, async ({ igd, mapper }) => {
      prepare?.(igd);
      const { external, lifetimeSeconds } = await mapper.map({ ...TCP_8080, ...request });
      const asked = igd.soapCalls.filter(({ action }) => action.startsWith("Add")).map((
        { action, values },
      ): [string, number, number, string] => [
        action,
        Number(values.NewExternalPort),
        Number(values.NewLeaseDuration),
        values.NewPortMappingDescription!,
      ]);
      expect({ igd, asked, externalPort: external.port, lifetimeSeconds });
    });
  });
}

const CODES = [
  ...[401, 402, 403, 404, 501, 600, 601, 602, 603, 604, 605, 606, 713, 714, 715, 716],
  ...[718, 724, 725, 726, 727, 728, 729, 730, 731, 732, 733, 899],
];

for (const code of CODES) {
  Deno.test(`map() gives up on a gateway that always answers ${code}, with a remedy`, async () => {
    const onSoap = ({ action }: SoapCall) => action.startsWith("Add") ? faultXml(code) : undefined;
    await atIgdHome({ services: [WAN_IP_2, WAN_PPP_1], onSoap }, async ({ igd, mapper }) => {
      const error = await assertRejects(() => mapper.map(TCP_8080), MappingRefusedError);
      assertEquals([error.mapper, error.code], ["upnp", code]);
      assert(
        error.message.startsWith(`Cannot map TCP ${HOST_IP}:8080: gateway 192.168.1.1 answered`),
      );
      assert(error.remedy.length > 10 && !error.remedy.endsWith("."));
      assert(igd.soapCalls.filter(({ action }) => action.startsWith("Add")).length <= 13);
      assertEquals(igd.table.entries, []);
    });
  });
}

Deno.test("map() of an exact port requests no other", async () => {
  for (const code of [501, 606, 716, 718, 729]) {
    const onSoap = ({ action }: SoapCall) => action.startsWith("Add") ? faultXml(code) : undefined;
    await atIgdHome({ services: [WAN_IP_2], onSoap }, async ({ igd, mapper }) => {
      const request = { ...TCP_8080, externalPort: 80, exactExternalPort: true };
      await assertRejects(() => mapper.map(request), MappingRefusedError);
      const ports = igd.soapCalls.filter(({ action }) => action === "AddPortMapping")
        .map(({ values }) => values.NewExternalPort);
      assertEquals(new Set(ports), new Set(["80"]));
      assert(!igd.actions.includes("AddAnyPortMapping"));
    });
  }
});

Deno.test("map() never requests all ports, whatever the gateway answers", async () => {
  const onSoap = ({ action }: SoapCall) => action.startsWith("Add") ? faultXml(727) : undefined;
  await atIgdHome({ onSoap }, async ({ igd, mapper }) => {
    await assertRejects(() => mapper.map(TCP_8080), MappingRefusedError);
    assert(igd.soapCalls.every(({ values }) => values.NewExternalPort !== "0"));
  });
});

Deno.test("map() reports a gateway that always hangs up", async () => {
  await atIgdHome({ onSoap: () => RESET }, async ({ mapper }) => {
    const error = await assertRejects(() => mapper.map(TCP_8080), MappingRefusedError);
    assertEquals(error.reason, "connection reset");
  });
  await atIgdHome({ onSoap: () => HANG_UP }, async ({ mapper }) => {
    const error = await assertRejects(() => mapper.map(TCP_8080), MappingRefusedError);
    assertEquals(error.reason, "connection reset");
  });
});
