import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { MappingRefusedError, type MappingRequest } from "../../lib/portmap/mapper.ts";
import { FakeIgd, FIREWALL, WAN_IP_1, WAN_PPP_1 } from "./fake_gateway/fake_igd.ts";
import { IgdTable, type SoapCall } from "./fake_gateway/igd_table.ts";
import { answerXml, faultXml } from "./fake_gateway/igd_xml.ts";
import { igdMapper } from "../../lib/portmap/upnp/client.ts";
import { GATEWAY_IP, HOST_IP, TCP_8080, UDP_8080 } from "./fixtures.ts";
import { atIgdHome, HOST_IP6, TCP6_8080 } from "./igd_home.ts";

Deno.test("map() opens a port, confirms that it is open, and reports the external address", async () => {
  await atIgdHome({}, async ({ igd, mapper }) => {
    const grant = await mapper.map(TCP_8080);
    assertEquals({ ...grant, grantedAtMs: 0 }, {
      mapper: "upnp",
      protocol: "tcp",
      internal: { ip: HOST_IP, port: 8080 },
      external: { ip: "44.0.0.7", port: 8080 },
      lifetimeSeconds: 3600,
      grantedAtMs: 0,
      gateway: GATEWAY_IP,
      handle: JSON.stringify({
        kind: "port",
        serviceType: WAN_IP_1.serviceType,
        control: "/ctl/IPConn",
        description: "test",
      }),
    });
    assertEquals(igd.table.entries, [{
      protocol: "TCP",
      externalPort: 8080,
      internalClient: HOST_IP,
      internalPort: 8080,
      description: "test",
      leaseSeconds: 3600,
    }]);
    assertEquals(igd.actions, [
      "GetSpecificPortMappingEntry",
      "GetExternalIPAddress",
      "AddPortMapping",
      "GetSpecificPortMappingEntry",
    ]);
  });
});

Deno.test("map() takes nine round trips, and no other time", async () => {
  await atIgdHome({}, async ({ mapper, time }) => {
    await mapper.map(TCP_8080);
    // A search, and for the description and each of three calls a connection and a request, 2 ms each; the
    // simulation's device takes up to a millisecond to answer a search.
    assert(time.nowMs <= 9 * 2 + 1, `it took ${time.nowMs} ms`);
  });
});

Deno.test("map() sends arguments in the order of the specification, with escaped values", async () => {
  const description = "a <b> & \"c\" 'd'\u0007";
  await atIgdHome({}, async ({ igd, mapper }) => {
    await mapper.map({ ...UDP_8080, externalPort: 9000, description });
    const added = igd.soapCalls.find(({ action }) => action === "AddPortMapping");
    assertEquals(Object.entries(added!.values), [
      ["NewRemoteHost", ""],
      ["NewExternalPort", "9000"],
      ["NewProtocol", "UDP"],
      ["NewInternalPort", "8080"],
      ["NewInternalClient", HOST_IP],
      ["NewEnabled", "1"],
      ["NewPortMappingDescription", "a <b> & \"c\" 'd'"],
      ["NewLeaseDuration", "3600"],
    ]);
    const { fields, body } = igd.httpCalls.find(({ body }) => body.includes("AddPortMapping"))!;
    assertEquals(fields.get("soapaction"), `"${WAN_IP_1.serviceType}#AddPortMapping"`);
    assert(body.includes("a &lt;b&gt; &amp; \"c\" 'd'<"));
  });
});

Deno.test("renew() keeps the port and the description, and release() may be called twice", async () => {
  await atIgdHome({}, async ({ igd, mapper }) => {
    const grant = await mapper.map({ ...TCP_8080, externalPort: 9000 });
    const renewed = await mapper.renew(grant, { lifetimeSeconds: 7200 });
    assertEquals(renewed.external, grant.external);
    assertEquals(renewed.lifetimeSeconds, 7200);
    assertEquals(igd.table.entries.map(({ description }) => description), ["test"]);
    await mapper.release(renewed);
    assertEquals(igd.table.entries, []);
    await mapper.release(renewed);
  });
});

Deno.test("release() does not delete another host's mapping after the lease has expired", async () => {
  await atIgdHome({}, async ({ igd, mapper }) => {
    const grant = await mapper.map(TCP_8080);
    igd.table.put({ ...igd.table.entries[0]!, internalClient: "192.168.1.77" });
    await delay(3_600_001);
    await mapper.release(grant);
    assertEquals(igd.table.entries.length, 1);
  });
});

Deno.test("a mapper rejects grants that it did not make", async () => {
  await atIgdHome({}, async ({ mapper }) => {
    const grant = await mapper.map(TCP_8080);
    await assertRejects(() => mapper.renew({ ...grant, mapper: "pcp" }), TypeError);
    await assertRejects(() => mapper.release({ ...grant, handle: "{}" }), TypeError);
    await assertRejects(() => mapper.checkPinhole(grant), TypeError);
  });
});

Deno.test("listMappings() lists the mappings of all hosts, and deleteMapping() deletes any", async () => {
  await atIgdHome({}, async ({ igd, mapper }) => {
    await mapper.map({ ...TCP_8080, description: "<&>" });
    igd.table.put({ ...igd.table.entries[0]!, protocol: "UDP", internalClient: "192.168.1.77" });
    const entries = await mapper.listMappings();
    assertEquals(entries.map(({ internalClient }) => internalClient), [HOST_IP, "192.168.1.77"]);
    assertEquals(entries[0]?.description, "<&>");
    await mapper.deleteMapping({ protocol: "udp", externalPort: 8080 });
    assertEquals(igd.table.entries.length, 1);
    await mapper.deleteMapping({ protocol: "udp", externalPort: 8080 });
  });
});

Deno.test("listMappings() ends with the first repeated entry", async () => {
  const repeats = (call: { action: string; serviceType: string }) =>
    call.action !== "GetGenericPortMappingEntry" ? undefined : answerXml(
      call.serviceType,
      call.action,
      {
        NewExternalPort: 80,
        NewProtocol: "TCP",
        NewInternalPort: 80,
        NewInternalClient: HOST_IP,
      },
    );
  await atIgdHome({ onSoap: repeats }, async ({ mapper }) => {
    assertEquals((await mapper.listMappings()).length, 1);
  });
});

Deno.test("externalIp() returns 0.0.0.0 for an answer that is not an address", async () => {
  await atIgdHome({}, async ({ igd, mapper }) => {
    assertEquals(await mapper.externalIp(), "44.0.0.7");
    for (const text of ["", "garbage", "300.1.1.1"]) {
      igd.table.externalIp = text;
      assertEquals(await mapper.externalIp(), "0.0.0.0");
    }
  });
});

Deno.test("probe() reports the device, its connection and its address, and changes nothing", async () => {
  await atIgdHome({}, async ({ igd, mapper }) => {
    const result = await mapper.probe();
    assert(result.kind === "supported");
    assertEquals(result.externalIp, "44.0.0.7");
    assertEquals(result.detail, `Fake Router, ${WAN_IP_1.serviceType}, Connected`);
    assertEquals(igd.actions, ["GetStatusInfo", "GetExternalIPAddress"]);
  });
});

Deno.test("map() uses the connection that is connected and has a public address", async () => {
  const services = [WAN_IP_1, WAN_PPP_1];
  await atIgdHome({
    services,
    onSoap: ({ serviceType, action }) => {
      if (serviceType !== WAN_IP_1.serviceType) return undefined;
      if (action === "GetStatusInfo") {
        return answerXml(serviceType, action, { NewConnectionStatus: "Disconnected" });
      }
      return answerXml(serviceType, action, { NewExternalIPAddress: "0.0.0.0" });
    },
  }, async ({ igd, mapper }) => {
    await mapper.map(TCP_8080);
    const call = igd.soapCalls.find(({ action }) => action === "AddPortMapping");
    assertEquals(call?.serviceType, WAN_PPP_1.serviceType);
  });
});

Deno.test("concurrent calls share one search, and run one after the other", async () => {
  await atIgdHome({}, async ({ igd, mapper }) => {
    const ports = Array.from({ length: 20 }, (_, index) => 9000 + index);
    await Promise.all(
      ports.map((port) => mapper.map({ ...TCP_8080, internal: { ip: HOST_IP, port } })),
    );
    assertEquals(igd.table.entries.length, 20);
    assertEquals(igd.httpCalls.filter(({ method }) => method === "GET").length, 1);
  });
});

Deno.test("a device that has moved to another port is found again", async () => {
  let httpPort = 5000;
  const options = {
    get location() {
      return `http://${GATEWAY_IP}:${httpPort}/rootDesc.xml`;
    },
  };
  await atIgdHome(options, async ({ igd, mapper, gatewayNetwork }) => {
    const grant = await mapper.map(TCP_8080);
    igd[Symbol.dispose]();
    httpPort = 5001;
    using moved = await FakeIgd.start(gatewayNetwork, GATEWAY_IP, { httpPort });
    await mapper.renew(grant);
    assertEquals(moved.table.entries.length, 1);
  });
});

Deno.test("an aborted call rejects with the signal's reason, at any point", async () => {
  for (const afterMs of [0.5, 3, 5, 7, 9, 11, 13]) {
    await atIgdHome({}, async ({ mapper }) => {
      const reason = new Error("enough");
      const controller = new AbortController();
      setTimeout(() => controller.abort(reason), afterMs);
      const error = await assertRejects(() => mapper.map(TCP_8080, { signal: controller.signal }));
      assertStrictEquals(error, reason);
    });
  }
});

Deno.test("map() checks the request before it sends anything", async () => {
  await atIgdHome({}, async ({ igd, mapper }) => {
    const wrong: MappingRequest = { ...TCP_8080, externalPort: 0 };
    await assertRejects(() => mapper.map(wrong), RangeError);
    assertEquals(igd.searches, []);
  });
});

Deno.test("map() opens a pinhole from its own IPv6 address, and renew() and release() use its id", async () => {
  await atIgdHome({ over: 6, services: [WAN_IP_1, FIREWALL] }, async ({ igd, mapper }) => {
    const grant = await mapper.map(TCP6_8080);
    assertEquals(grant.external, { ip: HOST_IP6, port: 8080 });
    assertEquals(Object.entries(igd.soapCalls[0]!.values), [
      ["RemoteHost", ""],
      ["RemotePort", "0"],
      ["InternalClient", HOST_IP6],
      ["InternalPort", "8080"],
      ["Protocol", "6"],
      ["LeaseTime", "3600"],
    ]);
    const renewed = await mapper.renew(grant, { lifetimeSeconds: 50 });
    assertEquals([renewed.lifetimeSeconds, renewed.handle], [50, grant.handle]);
    assertEquals(igd.table.pinholes.get(1)?.LeaseTime, "50");
    assertEquals(await mapper.checkPinhole(grant), true);
    await mapper.release(grant);
    await mapper.release(grant);
    assertEquals(igd.table.pinholes.size, 0);
    assertEquals(await mapper.checkPinhole(grant), false);
  });
});

Deno.test("renew() opens another pinhole if the router lost it, or cannot extend it", async () => {
  for (const code of [704, 403, 602]) {
    await atIgdHome({
      over: 6,
      services: [FIREWALL],
      onSoap: ({ action }) => action === "UpdatePinhole" ? faultXml(code) : undefined,
    }, async ({ mapper }) => {
      const grant = await mapper.map(TCP6_8080);
      const renewed = await mapper.renew(grant);
      assertEquals(renewed.handle, JSON.stringify({ kind: "pinhole", uniqueId: 2 }));
    });
  }
});

Deno.test('checkPinhole() returns "unknown" if the router lacks the action, as FRITZ!Box 7590 does', async () => {
  await atIgdHome({
    over: 6,
    services: [FIREWALL],
    onSoap: ({ action }) => action === "CheckPinholeWorking" ? faultXml(403) : undefined,
  }, async ({ mapper }) => {
    assertEquals(await mapper.checkPinhole(await mapper.map(TCP6_8080)), "unknown");
  });
});

for (const code of [606, 701, 702, 703, 705]) {
  Deno.test(`map() reports a remedy if a pinhole is refused with ${code}`, async () => {
    await atIgdHome({
      over: 6,
      services: [FIREWALL],
      onSoap: () => faultXml(code),
    }, async ({ mapper }) => {
      const error = await assertRejects(() => mapper.map(TCP6_8080), MappingRefusedError);
      assertEquals(error.code, code);
      assert(error.remedy.length > 10);
    });
  });
}

Deno.test("map() fails for IPv6 without firewall control, and for IPv4 without connections", async () => {
  await atIgdHome({ over: 6 }, async ({ mapper }) => {
    const error = await assertRejects(() => mapper.map(TCP6_8080), MappingRefusedError);
    assertEquals(error.reason, "no WANIPv6FirewallControl");
  });
  await atIgdHome({ services: [FIREWALL] }, async ({ mapper }) => {
    const error = await assertRejects(() => mapper.map(TCP_8080), MappingRefusedError);
    assertEquals(error.reason, "no WANIPConnection");
  });
});

Deno.test("listMappings() and deleteMapping() know all connections of a device", async () => {
  const tables = new Map(["/ctl/1", "/ctl/2"].map((path) => [path, new IgdTable()]));
  const services = [...tables.keys()].map((controlUrl) => ({ ...WAN_IP_1, controlUrl }));
  const onSoap = (call: SoapCall) => tables.get(call.target)!.answer(call);
  await atIgdHome({ services, onSoap }, async ({ mapper }) => {
    const entry = { protocol: "TCP", internalClient: HOST_IP, internalPort: 80 } as const;
    const rest = { description: "", leaseSeconds: 0 };
    tables.get("/ctl/1")!.put({ ...entry, ...rest, externalPort: 1001 });
    tables.get("/ctl/2")!.put({ ...entry, ...rest, externalPort: 1002 });
    const listed = await mapper.listMappings();
    assertEquals(listed.map(({ externalPort }) => externalPort), [1001, 1002]);
    await mapper.deleteMapping({ protocol: "tcp", externalPort: 1002 });
    assertEquals(tables.get("/ctl/2")!.entries, []);
    assertEquals(tables.get("/ctl/1")!.entries.length, 1);
  });
});

Deno.test("renew() and release() use the connection that granted, of several of one type", async () => {
  const tables = new Map(["/ctl/1", "/ctl/2"].map((path) => [path, new IgdTable()]));
  const services = [...tables.keys()].map((controlUrl) => ({ ...WAN_IP_1, controlUrl }));
  const onSoap = (call: SoapCall) =>
    call.target === "/ctl/1" && call.action === "AddPortMapping"
      ? faultXml(606)
      : tables.get(call.target)!.answer(call);
  await atIgdHome({ services, onSoap }, async ({ igd, mapper, network }) => {
    const grant = await mapper.map(TCP_8080);
    const adds = () => igd.soapCalls.filter(({ action }) => action === "AddPortMapping").length;
    const before = adds();
    await mapper.renew(grant);
    assertEquals(adds() - before, 1);
    // Another mapper, such as that of the next run, knows it from the handle.
    await igdMapper(GATEWAY_IP, { network }).release(grant);
    assertEquals(tables.get("/ctl/2")!.entries, []);
  });
});
