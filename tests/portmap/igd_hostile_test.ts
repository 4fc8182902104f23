// Hostile or dead gateways and devices on the link: no request goes to a forbidden address, and the gateway is found
// nevertheless.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { MalformedMessageError, NoResponseError } from "../../lib/base/errors.ts";
import { MappingRefusedError } from "../../lib/portmap/mapper.ts";
import { FakeIgd, type FakeIgdOptions, WAN_IP_1 } from "./fake_gateway/fake_igd.ts";
import type { HttpReply } from "./fake_gateway/http_server.ts";
import type { SoapCall } from "./fake_gateway/igd_table.ts";
import { descriptionXml, faultXml } from "./fake_gateway/igd_xml.ts";
import { GATEWAY_IP, HOST_IP, TCP_8080 } from "./fixtures.ts";
import { atIgdHome, recordDials } from "./igd_home.ts";

/** Hosts that a gateway names for itself; only its own address is asked. */
const STRANGE_LOCATIONS = [
  "http://127.0.0.1:5000/rootDesc.xml",
  "http://127.1:5000/rootDesc.xml",
  "http://2130706433:5000/rootDesc.xml",
  "http://[::1]:5000/rootDesc.xml",
  "http://[::ffff:127.0.0.1]:5000/rootDesc.xml",
  "http://0.0.0.0:5000/rootDesc.xml",
  `http://${HOST_IP}:5000/rootDesc.xml`,
  "http://44.1.2.3:5000/rootDesc.xml",
  "http://192.168.2.1:5000/rootDesc.xml",
  "http://10.0.0.1:5000/rootDesc.xml",
  "http://169.254.169.254:5000/rootDesc.xml",
  "http://239.255.255.250:5000/rootDesc.xml",
  "http://router.example:5000/rootDesc.xml",
  "http://localhost:5000/rootDesc.xml",
  "http://192.168.1.9:5000/rootDesc.xml",
  "http://router lan:5000/rootDesc.xml",
  "  HTTP://Router.LAN:5000/rootDesc.xml",
];

const UNUSABLE_LOCATIONS = [
  "http://user@192.168.1.1:5000/rootDesc.xml",
  "http://192.168.1.1:22/rootDesc.xml",
  "http://192.168.1.1:0/rootDesc.xml",
  "http://192.168.1.1:99999/rootDesc.xml",
  "https://192.168.1.1:5000/rootDesc.xml",
  "file:///etc/passwd",
  "gopher://192.168.1.1:5000/1",
  "rootDesc.xml",
];

for (const location of STRANGE_LOCATIONS) {
  Deno.test(`LOCATION ${location} is asked for at the gateway's own address`, async () => {
    await atIgdHome({ location }, async ({ igd, mapper, internet, router }) => {
      internet.host("other", { behind: router, addresses: ["192.168.1.9"] });
      internet.names.set("router.example", ["192.168.1.9"]);
      const dials = recordDials(internet);
      await mapper.map(TCP_8080);
      assertEquals(igd.table.entries.length, 1);
      assertEquals(new Set(dials), new Set([`${GATEWAY_IP}:5000`]));
    });
  });
}

for (const location of UNUSABLE_LOCATIONS) {
  Deno.test(`no request goes to LOCATION ${location}`, async () => {
    await atIgdHome({ location }, async ({ mapper, internet }) => {
      const dials = recordDials(internet);
      await assertRejects(() => mapper.map(TCP_8080), MalformedMessageError, location);
      assertEquals(dials, []);
    });
  });
}

Deno.test("control URLs and URLBase lead to the device's own host, whatever host they name", async () => {
  const urls = ["http://127.0.0.1/ctl/IPConn", "http://44.1.2.3:5000/ctl/IPConn", "ctl/IPConn"];
  for (const controlUrl of [...urls, "//router.example:5000/ctl/IPConn"]) {
    const service = { ...WAN_IP_1, controlUrl };
    for (const urlBase of [undefined, "http://127.0.0.1:5000", "http://44.1.2.3:5000/", "%%%"]) {
      const description = descriptionXml([service], { urlBase });
      await atIgdHome({ description }, async ({ mapper, internet }) => {
        const dials = recordDials(internet);
        await mapper.map(TCP_8080).catch(() => {});
        assert(dials.length > 0 && dials.every((dial) => dial.startsWith(GATEWAY_IP)), `${dials}`);
      });
    }
  }
});

Deno.test("redirects are followed three times, and to the gateway's own address only", async () => {
  for (const location of ["http://127.0.0.1:5000/", "http://44.1.2.3:5000/", "/rootDesc.xml"]) {
    const redirect: HttpReply = {
      kind: "response",
      status: 302,
      body: "",
      fields: { Location: location },
    };
    await atIgdHome({ onGet: () => redirect }, async ({ igd, mapper, internet }) => {
      const dials = recordDials(internet);
      await assertRejects(() => mapper.map(TCP_8080), MalformedMessageError, "HTTP status 302");
      assertEquals([dials.length, igd.httpCalls.length], [4, 4]);
      assertEquals(new Set(dials), new Set([`${GATEWAY_IP}:5000`]));
    });
  }
});

Deno.test("answers from beyond the link are ignored", async () => {
  await atIgdHome({ onSearch: () => [] }, async ({ igd, mapper, internet, router }) => {
    const stranger = internet.host("stranger", { behind: router, addresses: ["192.168.9.9"] });
    const { network } = stranger;
    using socket = await network.bindUdp({ ip: "192.168.9.9", port: 1900 });
    internet.onPacket = ({ packet, at, what }) => {
      if (at !== "gateway" || what !== "received" || packet.protocol !== "udp") return;
      const text = igd.searches[0]?.usual;
      if (text !== undefined) socket.send(new TextEncoder().encode(text), packet.source);
    };
    await assertRejects(() => mapper.map(TCP_8080), NoResponseError);
    assertEquals(igd.httpCalls, []);
  });
});

Deno.test("a gateway is found among junk, duplicates and answers from another port", async () => {
  await atIgdHome({
    onSearch: ({ usual }) =>
      [
        ...["", "\0\xff", "NOTIFY * HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\n\r\n"],
        ...[
          "HTTP/1.1 200 OK\r\nST: x\r\n\r\n",
          "<html>",
          "HTTP/1.1 200 OK\r\nLOCATION: ::\r\n\r\n",
        ],
        ...[usual.toLowerCase().replace("rootdesc", "rootDesc"), usual, usual],
      ].map((text) => ({ text, fromElsewhere: true })),
  }, async ({ igd, mapper }) => {
    await mapper.map(TCP_8080);
    assertEquals(igd.table.entries.length, 1);
    assertEquals(igd.httpCalls.filter(({ method }) => method === "GET").length, 1);
  });
});

Deno.test("a flood of answers leads to at most eight requests, and three retries", async () => {
  let port = 6000;
  const onSearch: FakeIgdOptions["onSearch"] = ({ usual }) =>
    Array.from({ length: 300 }, () => ({ text: usual.replace(":5000", `:${port++}`) }));
  await atIgdHome({ onSearch }, async ({ mapper, internet }) => {
    const dials = recordDials(internet);
    await assertRejects(() => mapper.map(TCP_8080), MalformedMessageError);
    assert(dials.length <= 11, `${dials.length}`);
  });
});

Deno.test("a dead device beside the gateway causes no delay", async () => {
  await atIgdHome({
    onSearch: ({ usual }) => [
      { text: usual.replace("192.168.1.1:5000", "192.168.1.66:5000") },
      { text: usual, delayMs: 20 },
    ],
  }, async ({ mapper, internet, router, time }) => {
    internet.host("dead", { behind: router, addresses: ["192.168.1.66"], fault: "silent" });
    await mapper.map(TCP_8080);
    assert(time.nowMs < 50, `${time.nowMs}`);
  });
});

Deno.test("another device of the link is not used in place of the gateway, nor dialled", async () => {
  await atIgdHome({ onSearch: () => [] }, async ({ mapper, internet, router }) => {
    const { network } = internet.host("other", { behind: router, addresses: ["192.168.1.9"] });
    using other = await FakeIgd.start(network, "192.168.1.9");
    const dials = recordDials(internet);
    await assertRejects(() => mapper.map(TCP_8080), NoResponseError);
    assertEquals([dials, other.table.entries.length], [[], 0]);
  });
});

Deno.test("a device that opens no ports is not reported as silent", async () => {
  const services = [{
    serviceType: "urn:schemas-upnp-org:service:ContentDirectory:1",
    controlUrl: "/c",
  }];
  await atIgdHome({ services }, async ({ mapper }) => {
    const result = await mapper.probe();
    assert(result.kind === "refused");
    assertEquals(result.error.reason, "no WANIPConnection");
  });
});

Deno.test("a search that no device answers ends in five seconds, after 38 datagrams", async () => {
  await atIgdHome({ onSearch: () => [] }, async ({ igd, mapper, time }) => {
    assertEquals(await mapper.probe(), { kind: "silent", waitedMs: 5000 });
    assert(time.nowMs <= 5010);
    assertEquals(igd.searches.length, 38);
  });
});

Deno.test("a search that the gateway has answered with nothing of use ends in less than two seconds", async () => {
  await atIgdHome({ description: "<html>" }, async ({ mapper, time }) => {
    assertEquals((await mapper.probe()).kind, "garbled");
    assert(time.nowMs <= 2000);
  });
});

Deno.test("a gateway's name and status contain no control characters", async () => {
  const description = descriptionXml([WAN_IP_1], { friendlyName: "a\u001b]0;evil\u0007\u009b2Jb" });
  const onSoap = ({ action }: SoapCall) =>
    action.startsWith("Add") ? faultXml(606, "\u001b[2J\u009bno") : undefined;
  await atIgdHome({ description, onSoap }, async ({ mapper }) => {
    const probe = await mapper.probe();
    assert(probe.kind === "supported");
    assert(probe.detail?.startsWith("a]0;evil2Jb, "), probe.detail);
    const error = await assertRejects(() => mapper.map(TCP_8080), MappingRefusedError);
    assert(!/\p{Control}/u.test(error.message), error.message);
  });
});
