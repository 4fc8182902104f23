// Recordings of real devices decode to the values that were recorded with them; tests/fixtures/README.md names the sources.

import { assert, assertEquals, assertThrows } from "@std/assert";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { decodeDeviceDescription } from "../../lib/portmap/upnp/device.ts";
import { parseLocation } from "../../lib/portmap/upnp/device.ts";
import { igdDevice } from "../../lib/portmap/upnp/device.ts";
import { decodeSoapBody } from "../../lib/portmap/upnp/soap.ts";

const FIXTURES = new URL("../fixtures/", import.meta.url);
const LOCATION = parseLocation("http://192.168.1.1:49152/gateway.xml", "192.168.1.1");

function names(folder: string, ending: string): string[] {
  return Array.from(Deno.readDirSync(new URL(folder, FIXTURES)), ({ name }) => name)
    .filter((name) => name.endsWith(ending)).map((name) => name.slice(0, -ending.length)).sort();
}

function read(path: string): Uint8Array {
  return Deno.readFileSync(new URL(path, FIXTURES));
}

function readText(path: string): string {
  return new TextDecoder().decode(read(path));
}

/** Sections of `name = value` lines. */
function parseValues(text: string): Record<string, string>[] {
  return text.split(/^\w+:$/m).slice(1).map((section) =>
    Object.fromEntries(
      Array.from(section.matchAll(/^ (\w+) = (.*)$/gm), ([, name, value]) => [name, value]),
    )
  );
}

for (const name of names("igd/", ".values")) {
  Deno.test(`decodeDeviceDescription() reads the recorded values of ${name}`, () => {
    const { services } = decodeDeviceDescription(read(`igd/${name}.xml`));
    const sections = parseValues(readText(`igd/${name}.values`));
    assert(sections.length >= 2);
    for (const section of sections) {
      const service = services.find(({ serviceType }) => serviceType === section.servicetype);
      assert(service !== undefined);
      assertEquals({
        servicetype: service.serviceType,
        controlurl: service.controlUrl,
        eventsuburl: service.eventSubUrl,
        scpdurl: service.scpdUrl,
      }, section);
    }
  });
}

const DEVICES: Readonly<Record<string, { connection: string; port: number; target: string }>> = {
  linksys_WAG200G_desc: {
    connection: "urn:schemas-upnp-org:service:WANPPPConnection:1",
    port: 49152,
    target: "/upnp/control/WANPPPConn1",
  },
  new_LiveBox_desc: {
    connection: "urn:schemas-upnp-org:service:WANPPPConnection:2",
    port: 49152,
    target: "/87895a19/upnp/control/WANIPConn1",
  },
  // Its URLBase is loopback, and its control URL is absolute.
  root1: {
    connection: "urn:schemas-upnp-org:service:WANIPConnection:1",
    port: 4444,
    target: "/wipconn",
  },
  root2: {
    connection: "urn:schemas-upnp-org:service:WANIPConnection:1",
    port: 4444,
    target: "/WANIPConnection",
  },
  root3: {
    connection: "urn:schemas-upnp-org:service:WANIPConnection:2",
    port: 4444,
    target: "/WANIPConnection",
  },
};

Deno.test("every recorded description is tested", () => {
  assertEquals(names("igd/", ".xml"), Object.keys(DEVICES).sort());
});

for (const [name, { connection, port, target }] of Object.entries(DEVICES)) {
  Deno.test(`igdDevice() finds the connection of ${name}`, () => {
    const text = readText(`igd/${name}.xml`).replaceAll("%s:%d", "192.168.1.1:4444");
    const device = igdDevice(decodeDeviceDescription(new TextEncoder().encode(text)), LOCATION);
    const [service] = device.connections;
    assertEquals(service?.serviceType, connection);
    assertEquals(service?.control, { address: { ip: "192.168.1.1", port }, target });
    assertEquals(device.firewall !== undefined, name === "new_LiveBox_desc");
  });
}

for (const name of names("soap/", ".namevalue").filter((name) => name !== "invalid")) {
  Deno.test(`decodeSoapBody() reads the recorded values of ${name}`, () => {
    const recorded = Array.from(
      readText(`soap/${name}.namevalue`).matchAll(/^(\w+)=(.*)$/gm),
      ([, key, value]): [string, string] => [key!.toLowerCase(), value!],
    );
    const body = decodeSoapBody(read(`soap/${name}.xml`));
    assert(body.kind === "values");
    assertEquals(new Map(body.values), new Map(recorded));
  });
}

Deno.test("decodeSoapBody() rejects the truncated recording", () => {
  assertThrows(() => decodeSoapBody(read("soap/invalid.xml")), MalformedMessageError);
});
