// Mappings are confirmed: some gateways grant what they do not have, or something else.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { NoResponseError } from "../../lib/base/errors.ts";
import { MappingRefusedError } from "../../lib/portmap/mapper.ts";
import type { FakeIgd } from "./fake_gateway/fake_igd.ts";
import type { HttpReply } from "./fake_gateway/http_server.ts";
import type { SoapCall } from "./fake_gateway/igd_table.ts";
import { faultXml } from "./fake_gateway/igd_xml.ts";
import { TCP_8080 } from "./fixtures.ts";
import { atIgdHome } from "./igd_home.ts";

const RESET: HttpReply = { kind: "raw", pieces: [], end: "reset" };

/** Makes a gateway map the next port after the one that was requested, without saying so. */
function shiftPorts(igd: FakeIgd): void {
  const put = igd.table.put.bind(igd.table);
  igd.table.put = (entry) => put({ ...entry, externalPort: entry.externalPort + 1 });
}

Deno.test("map() finds the other port that the gateway mapped without saying so", async () => {
  await atIgdHome({}, async ({ igd, mapper }) => {
    shiftPorts(igd);
    assertEquals((await mapper.map(TCP_8080)).external, { ip: "44.0.0.7", port: 8081 });
  });
});

Deno.test("map() of an exact port deletes the other port that the gateway mapped without saying so", async () => {
  await atIgdHome({}, async ({ igd, mapper }) => {
    shiftPorts(igd);
    const request = { ...TCP_8080, exactExternalPort: true };
    const error = await assertRejects(() => mapper.map(request), MappingRefusedError);
    assertEquals(error.reason, "ConflictInMappingEntry");
    assertEquals(igd.table.entries, []);
  });
});

Deno.test("map() tries another port if the one granted leads to another host", async () => {
  const onSoap = ({ action, values }: SoapCall, usual: () => HttpReply) => {
    const reply = usual();
    const isFirst = action === "GetSpecificPortMappingEntry" && values.NewExternalPort === "8080" ||
      action === "GetGenericPortMappingEntry" && values.NewPortMappingIndex === "0";
    if (!isFirst || reply.kind !== "response") return reply;
    return { ...reply, body: String(reply.body).replace("192.168.1.2<", "192.168.1.77<") };
  };
  await atIgdHome({ onSoap }, async ({ mapper }) => {
    assert((await mapper.map(TCP_8080)).external.port >= 49_152);
  });
});

Deno.test("map() takes a lease that reads back as 0 as requested, and any other as read", async () => {
  for (const [told, granted] of [[0, 3600], [86_400, 86_400]] as const) {
    await atIgdHome({
      onSoap: ({ action }, usual) => {
        const reply = usual();
        if (action !== "GetSpecificPortMappingEntry" || reply.kind !== "response") return reply;
        const body = String(reply.body).replace(/(<NewLeaseDuration>)\d+/, `$1${told}`);
        return { ...reply, body };
      },
    }, async ({ mapper }) => {
      assertEquals((await mapper.map(TCP_8080)).lifetimeSeconds, granted);
    });
  }
});

Deno.test("map() trusts a gateway that does not show its table", async () => {
  const replies = [faultXml(401), faultXml(501), RESET, {
    ...faultXml(401),
    status: 200,
    body: "?",
  }];
  for (const reply of replies) {
    const onSoap = ({ action }: SoapCall) => action.startsWith("Get") ? reply : undefined;
    await atIgdHome({ onSoap }, async ({ mapper }) => {
      const { external } = await mapper.map(TCP_8080);
      assertEquals(external, { ip: "0.0.0.0", port: 8080 });
    });
  }
});

Deno.test("map() fails if the gateway grants a mapping that it does not have", async () => {
  await atIgdHome({}, async ({ igd, mapper }) => {
    igd.table.put = () => {};
    const error = await assertRejects(() => mapper.map(TCP_8080), MappingRefusedError);
    assertEquals(error.reason, "NoSuchEntryInArray");
  });
});

Deno.test("renew() reports that a gateway that is gone does not answer", async () => {
  await atIgdHome({}, async ({ igd, mapper }) => {
    const grant = await mapper.map(TCP_8080);
    igd[Symbol.dispose]();
    await assertRejects(() => mapper.renew(grant), NoResponseError);
  });
});
