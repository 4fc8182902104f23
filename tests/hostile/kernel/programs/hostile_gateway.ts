/**
 * A router, and a neighbour that plays one, as an attacker would program them:
 *
 *     hostile_gateway.ts ATTACK
 *
 * Own sockets and own bytes: nothing of the library is used here.
 *
 * @module
 */

// deno-lint-ignore-file no-console

const GATEWAY = "192.168.1.1";
const NEIGHBOUR = "192.168.1.50";
const ATTACKER = "192.168.1.66";
const VICTIM = "44.0.0.66";
const SERVICES = [22, 23, 25, 53, 80, 443, 445, 631, 1900, 3306, 5000, 6379, 8080, 9100, 11211];

interface Attack {
  /** The datagrams that answer a search, and who sends them. */
  ssdp?(search: string): Iterable<{ readonly from: string; readonly text: string }>;
  /** The bytes that answer an HTTP request; the connection is closed after them. */
  http?(request: string): Iterable<Uint8Array | string> | AsyncIterable<Uint8Array | string>;
  /** The datagrams that answer a request of PCP or NAT-PMP. */
  portmap?(request: Uint8Array): Iterable<Uint8Array>;
  /** Datagrams to port 5350 of the group, without end. */
  announce?(count: number): readonly Uint8Array[];
}

const ATTACKS: Record<string, Attack> = {
  silent: {},

  // --- SSDP ---
  "neighbour claims to be a gateway": {
    ssdp: () => [{ from: ATTACKER, text: found(`http://${ATTACKER}:5000/igd.xml`) }],
    http: honestHttp(),
  },
  "neighbour names services of another neighbour": {
    ssdp: () =>
      SERVICES.map((port) => ({
        from: ATTACKER,
        text: found(`http://${NEIGHBOUR}:${port}/FLUSHALL`),
      })),
  },
  "gateway names services of a neighbour": {
    ssdp: () =>
      SERVICES.map((port) => ({ from: GATEWAY, text: found(`http://${NEIGHBOUR}:${port}/x`) })),
  },
  "gateway names a third party": {
    ssdp: () =>
      [VICTIM, "127.0.0.1", "192.168.1.2", "169.254.169.254", "2130706433", "[::ffff:127.0.0.1]"]
        .map((ip) => ({ from: GATEWAY, text: found(`http://${ip}:5000/igd.xml`) })),
  },
  "flood of answers": {
    ssdp: function* () {
      for (let i = 0; i < 20_000; i++) {
        const from = i % 2 ? GATEWAY : ATTACKER;
        yield { from, text: found(`http://${from}:${1024 + i}/${"a".repeat(900)}`) };
      }
    },
  },

  // --- HTTP ---
  "endless head": {
    ssdp: honestSsdp(),
    http: async function* () {
      yield "HTTP/1.1 200 OK\r\n";
      for (;;) yield `X-${"a".repeat(1000)}: ${"b".repeat(64_000)}\r\n`;
    },
  },
  "endless body": {
    ssdp: honestSsdp(),
    http: async function* () {
      yield "HTTP/1.1 200 OK\r\n\r\n<root>";
      const block = "<device>".repeat(8000);
      for (;;) yield block;
    },
  },
  "endless interim responses": {
    ssdp: honestSsdp(),
    http: async function* () {
      const block = "HTTP/1.1 100 Continue\r\n\r\n".repeat(2000);
      for (;;) yield block;
    },
  },
  "endless tiny chunks": {
    ssdp: honestSsdp(),
    http: async function* () {
      yield "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
      const block = `1;${"x".repeat(1000)}\r\na\r\n`.repeat(60);
      for (;;) yield block;
    },
  },
  "endless trailer": {
    ssdp: honestSsdp(),
    http: async function* () {
      yield "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
      const block = "X-Trailer: abcdefgh\r\n".repeat(3000);
      for (;;) yield block;
    },
  },
  "one byte a second": {
    ssdp: honestSsdp(),
    http: async function* () {
      yield "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
      for (;; await pause(1000)) yield " ";
    },
  },
  "entity bomb": {
    ssdp: honestSsdp(),
    http: () => {
      const entities = Array.from(
        { length: 12 },
        (_, i) => `<!ENTITY e${i + 1} "${`&e${i};`.repeat(10)}">`,
      );
      return [
        reply(`<!DOCTYPE x [<!ENTITY e0 "boom">${entities.join("")}]><root>&e12;</root>`),
      ];
    },
  },
  "deep description": {
    ssdp: honestSsdp(),
    http: () => [reply("<deviceList><device>".repeat(12_000))],
  },
  "description full of attributes": {
    ssdp: honestSsdp(),
    http: () => [
      reply(`<root ${Array.from({ length: 18_000 }, (_, i) => `a${i}="1"`).join(" ")}></root>`),
    ],
  },
  "thousands of services": {
    ssdp: honestSsdp(),
    http: (request) => [
      /^GET/.test(request) ? reply(description(Array(900).fill("/ctl"))) : reply("", 500),
    ],
  },
  "control URLs of others": {
    ssdp: honestSsdp(),
    http: (request) => [
      /^GET/.test(request)
        ? reply(
          description(
            [NEIGHBOUR, "127.0.0.1", VICTIM, ATTACKER].map((ip) => `http://${ip}:9100/ctl`),
            `http://${NEIGHBOUR}:6379/`,
          ),
        )
        : soap(request),
    ],
  },
  "redirects to others": {
    ssdp: honestSsdp(),
    http: () => [
      `HTTP/1.1 301 Moved\r\nLocation: http://${NEIGHBOUR}:9100/\r\nContent-Length: 0\r\n\r\n`,
    ],
  },
  "mapping table without end": {
    ssdp: honestSsdp(),
    http: honestHttp({
      GetGenericPortMappingEntry: (request) => {
        const index = /NewPortMappingIndex>(\d+)/.exec(request)?.[1] ?? "0";
        return {
          NewRemoteHost: "",
          NewExternalPort: `${1 + Number(index) % 65_535}`,
          NewProtocol: "TCP",
          NewInternalPort: "8080",
          NewInternalClient: "192.168.1.2",
          NewEnabled: "1",
          NewPortMappingDescription: "x".repeat(20_000),
          NewLeaseDuration: "0",
        };
      },
    }),
  },
  "terminal escapes": {
    ssdp: honestSsdp(),
    http: (request) => [
      /^GET/.test(request) ? reply(description(["/ctl"], "", ESCAPES)) : fault(request, 501),
    ],
  },
  "terminal escapes in a service without ports": {
    ssdp: honestSsdp(),
    http: () => [
      reply(
        `<root><device><deviceType>urn:x</deviceType><friendlyName>${ESCAPES}</friendlyName></device></root>`,
      ),
    ],
  },
  "conflict for every port": {
    ssdp: honestSsdp(),
    http: (request) => [
      /^GET/.test(request) ? reply(description(["/ctl"])) : fault(request, 718),
    ],
  },

  // --- PCP and NAT-PMP ---
  "flood of strange answers": {
    portmap: function* (request) {
      for (let i = 0; i < 5000; i++) {
        const bytes = pcpMap(request, { lifetime: 3600, external: VICTIM });
        bytes[24 + i % 12]! ^= 0xff; // another nonce
        yield bytes;
        yield crypto.getRandomValues(new Uint8Array(1100));
      }
    },
  },
  "lifetime of one second": {
    portmap: (request) => [pcpMap(request, { lifetime: 1, external: "44.0.0.7" })],
  },
  "lifetime of zero": {
    portmap: (request) => [pcpMap(request, { lifetime: 0, external: "44.0.0.7" })],
  },
  "lifetime without end": {
    portmap: (request) => [pcpMap(request, { lifetime: 0xffffffff, external: "44.0.0.7" })],
  },
  "external address of a neighbour": {
    portmap: (request) => [pcpMap(request, { lifetime: 3600, external: NEIGHBOUR })],
  },
  "external address in another network": {
    portmap: (request) => [pcpMap(request, { lifetime: 3600, external: "10.77.0.5" })],
  },
  "external address is loopback": {
    portmap: (request) => [pcpMap(request, { lifetime: 3600, external: "127.0.0.1" })],
  },
  "epoch that jumps": {
    portmap: (request) => [
      pcpMap(request, { lifetime: 120, external: "44.0.0.7", epoch: Math.random() * 2 ** 32 }),
    ],
  },
  "announcements without end": {
    portmap: (request) => [pcpMap(request, { lifetime: 120, external: "44.0.0.7" })],
    announce: (count) => {
      const pcp = new Uint8Array(24);
      pcp.set([2, 0x80, 0, 0]);
      new DataView(pcp.buffer).setUint32(8, count % 7 === 0 ? 0 : Math.random() * 2 ** 32);
      const natPmp = new Uint8Array(12);
      natPmp.set([0, 128, 0, 0]);
      new DataView(natPmp.buffer).setUint32(4, Math.random() * 2 ** 32);
      natPmp.set([44, 0, 0, count % 250], 8);
      return [pcp, natPmp, crypto.getRandomValues(new Uint8Array(1 + count % 1200))];
    },
  },
};

const ESCAPES = "\u009b2J\u009b31mEVIL\u202egnp.exe\u0007\u007f\u001b[2J\u0085nl\u2028ls";

const HEADER = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: ";

function found(location: string): string {
  return [
    "HTTP/1.1 200 OK",
    "CACHE-CONTROL: max-age=120",
    "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    `USN: uuid:${crypto.randomUUID()}::urn:schemas-upnp-org:device:InternetGatewayDevice:1`,
    `LOCATION: ${location}`,
    "SERVER: evil/1.0",
    "",
    "",
  ].join("\r\n");
}

function honestSsdp(): NonNullable<Attack["ssdp"]> {
  return () => [{ from: GATEWAY, text: found(`http://${GATEWAY}:5000/igd.xml`) }];
}

function honestHttp(
  answers: Record<string, (request: string) => Record<string, string>> = {},
): NonNullable<Attack["http"]> {
  return (request) => [
    /^GET/.test(request) ? reply(description(["/ctl"])) : soap(request, answers),
  ];
}

function description(controlUrls: readonly string[], urlBase = "", name = "evil"): string {
  const services = controlUrls.map((url, index) =>
    `<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>` +
    `<serviceId>urn:upnp-org:serviceId:WANIPConn${index}</serviceId>` +
    `<controlURL>${url}</controlURL></service>`
  ).join("");
  return `<root><URLBase>${urlBase}</URLBase><device>` +
    `<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>` +
    `<friendlyName>${name}</friendlyName><serviceList>${services}</serviceList></device></root>`;
}

function reply(body: string, status = 200): string {
  const length = new TextEncoder().encode(body).length;
  return HEADER.replace("200 OK", `${status} X`) + `${length}\r\n\r\n${body}`;
}

function soap(
  request: string,
  answers: Record<string, (request: string) => Record<string, string>> = {},
): string {
  const action = /#(\w+)"/.exec(request)?.[1] ?? "";
  const usual: Record<string, Record<string, string>> = {
    GetStatusInfo: { NewConnectionStatus: "Connected", NewUptime: "1" },
    GetExternalIPAddress: { NewExternalIPAddress: "44.0.0.7" },
    AddPortMapping: {},
    DeletePortMapping: {},
  };
  const fields = answers[action]?.(request) ?? usual[action];
  if (fields === undefined) return fault(request, 401);
  const xml = Object.entries(fields).map(([key, value]) => `<${key}>${value}</${key}>`).join("");
  return reply(
    `<Envelope><Body><u:${action}Response>${xml}</u:${action}Response></Body></Envelope>`,
  );
}

function fault(_request: string, code: number): string {
  return reply(
    `<Envelope><Body><Fault><faultstring>UPnPError</faultstring><detail><UPnPError>` +
      `<errorCode>${code}</errorCode><errorDescription>${ESCAPES}</errorDescription>` +
      `</UPnPError></detail></Fault></Body></Envelope>`,
    500,
  );
}

/** A response to a request to map, with its nonce; of NAT-PMP nothing is answered. */
function pcpMap(
  request: Uint8Array,
  { lifetime, external, epoch = 1000 }: { lifetime: number; external: string; epoch?: number },
): Uint8Array {
  if (request[0] !== 2 || request.length < 60) return new Uint8Array(1);
  const bytes = request.slice(0, 60);
  const view = new DataView(bytes.buffer);
  bytes[1]! |= 0x80;
  bytes[3] = 0;
  view.setUint32(4, lifetime);
  view.setUint32(8, epoch);
  bytes.fill(0, 12, 24);
  view.setUint16(42, view.getUint16(40));
  bytes.fill(0, 44, 54);
  bytes.set([0xff, 0xff, ...external.split(".").map(Number)], 54);
  return bytes;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function serveSsdp(attack: Attack): Promise<void> {
  const bind = (hostname: string) =>
    Deno.listenDatagram({ transport: "udp", hostname, port: 1900, reuseAddress: true });
  const senders = new Map([GATEWAY, ATTACKER].map((ip) => [ip, bind(ip)]));
  const group = bind("0.0.0.0");
  await group.joinMulticastV4("239.255.255.250", GATEWAY);
  const decoder = new TextDecoder();
  const hear = async (socket: Deno.DatagramConn) => {
    for await (const [data, from] of socket) {
      for (const answer of attack.ssdp?.(decoder.decode(data)) ?? []) {
        await senders.get(answer.from)!.send(new TextEncoder().encode(answer.text), from);
      }
    }
  };
  for (const socket of [group, ...senders.values()]) hear(socket);
}

function serveHttp(attack: Attack): void {
  const answer = async (connection: Deno.Conn) => {
    try {
      const buffer = new Uint8Array(65_536);
      let request = "";
      while (!isComplete(request)) {
        const count = await connection.read(buffer);
        if (count === null) return;
        request += new TextDecoder().decode(buffer.subarray(0, count));
      }
      for await (const part of attack.http!(request)) {
        const bytes = typeof part === "string" ? new TextEncoder().encode(part) : part;
        for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
      }
    } catch { // the victim has had enough
    } finally {
      connection.close();
    }
  };
  for (const hostname of [GATEWAY, ATTACKER, NEIGHBOUR]) {
    const listener = Deno.listen({ hostname, port: 5000 });
    (async () => {
      for await (const connection of listener) answer(connection);
    })();
  }
}

function isComplete(request: string): boolean {
  const [head, body] = request.split("\r\n\r\n", 2);
  if (body === undefined) return false;
  return body.length >= Number(/content-length: *(\d+)/i.exec(head!)?.[1] ?? 0);
}

async function servePortmap(attack: Attack): Promise<void> {
  const socket = Deno.listenDatagram({ transport: "udp", hostname: GATEWAY, port: 5351 });
  (async () => {
    for await (const [data, from] of socket) {
      for (const bytes of attack.portmap!(data)) await socket.send(bytes, from);
    }
  })();
  if (attack.announce === undefined) return;
  const group: Deno.NetAddr = { transport: "udp", hostname: "192.168.1.2", port: 5350 };
  for (let count = 0;; count++) {
    for (const bytes of attack.announce(count)) await socket.send(bytes, group);
    if (count % 20 === 0) await pause(1);
  }
}

const [name = ""] = Deno.args;
const attack = ATTACKS[name];
if (name === "--list") {
  console.log(JSON.stringify(Object.keys(ATTACKS)));
  Deno.exit();
}
if (attack === undefined) throw new Error(`Cannot attack: no attack is called ${name}`);
if (attack.ssdp !== undefined) await serveSsdp(attack);
if (attack.http !== undefined) serveHttp(attack);
if (attack.portmap !== undefined) servePortmap(attack);
console.log("ready");
