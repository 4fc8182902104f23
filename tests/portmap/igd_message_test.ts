import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { parseLocation, resolveDeviceUrl, whyForbidden } from "../../lib/portmap/upnp/device.ts";
import { encodeHttpRequest, HttpResponseDecoder } from "../../lib/portmap/upnp/http.ts";
import { decodeHandle, encodeHandle } from "../../lib/portmap/upnp/client.ts";
import { parseServiceType } from "../../lib/portmap/upnp/device.ts";
import { decodeSoapBody, encodeSoapRequest, soapFields } from "../../lib/portmap/upnp/soap.ts";
import { RequestPacing } from "../../lib/portmap/upnp/soap.ts";
import { decodeSearchResponse, encodeSearch } from "../../lib/portmap/upnp/ssdp.ts";
import { childText, escapeXmlText, findElement, parseXml } from "../../lib/portmap/upnp/xml.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";

Deno.test("encodeSearch() writes M-SEARCH, with MX for multicast only", () => {
  const searchTarget = "upnp:rootdevice";
  const many = { to: { ip: "239.255.255.250", port: 1900 }, searchTarget, maxWaitSeconds: 1 };
  assertEquals(
    toText(encodeSearch(many)),
    'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\n' +
      "ST: upnp:rootdevice\r\n\r\n",
  );
  const one = { to: { ip: "fe80::1%eth0", port: 1900 }, searchTarget };
  assertEquals(
    toText(encodeSearch(one)),
    'M-SEARCH * HTTP/1.1\r\nHOST: [fe80::1]:1900\r\nMAN: "ssdp:discover"\r\nST: upnp:rootdevice\r\n\r\n',
  );
});

Deno.test("decodeSearchResponse() reads the answer of a FRITZ!Box, in any case and with bare LFs", () => {
  const text = "HTTP/1.1 200 OK\r\nLOCATION: http://192.168.178.1:49000/igddesc.xml\r\n" +
    "SERVER: box UPnP/1.0 AVM\r\nCACHE-CONTROL: max-age=1800\r\nEXT:\r\n" +
    "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nUSN: uuid:x::urn\r\n\r\n";
  const expected = {
    location: "http://192.168.178.1:49000/igddesc.xml",
    searchTarget: "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    uniqueServiceName: "uuid:x::urn",
    server: "box UPnP/1.0 AVM",
  };
  assertEquals(decodeSearchResponse(toBytes(text)), expected);
  const lower = text.replaceAll(/^[A-Z-]+(?=:)/gm, (name) => name.toLowerCase());
  assertEquals(decodeSearchResponse(toBytes(lower.replaceAll("\r", ""))), expected);
});

Deno.test("decodeSearchResponse() rejects anything but an answer", () => {
  const good = "HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1/\r\n\r\n";
  for (
    const text of [
      "",
      "NOTIFY * HTTP/1.1\r\n",
      good.replace("200", "404"),
      good.replace("200", "2000"),
      good.replace("LOCATION", "X"),
      good + "x".repeat(5000),
      "HTTP/1.1 200 OK\r\n" + Array.from({ length: 200 }, (_, i) => `X${i}: y\r\n`).join(""),
    ]
  ) {
    assertThrows(() => decodeSearchResponse(toBytes(text)), MalformedMessageError);
  }
});

Deno.test("encodeHttpRequest() asks to close the connection", () => {
  const request = encodeHttpRequest({
    method: "POST",
    host: { ip: "192.168.1.1", port: 5000 },
    target: "/ctl?x",
    fields: { SOAPAction: '"a#b"' },
    body: toBytes("öx"),
  });
  assertEquals(
    toText(request),
    'POST /ctl?x HTTP/1.1\r\nHost: 192.168.1.1:5000\r\nConnection: close\r\nSOAPAction: "a#b"\r\n' +
      "Content-Length: 3\r\n\r\nöx",
  );
});

Deno.test("HttpResponseDecoder decodes the same response from pieces of any size", () => {
  const bytes = toBytes(
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
      "5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\nHTTP/1.1 500 too late",
  );
  fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 200 }), (sizes) => {
    const decoder = new HttpResponseDecoder(100);
    let at = 0;
    let response;
    for (const size of sizes) {
      response ??= decoder.push(bytes.subarray(at, at += size));
      if (at >= bytes.length) break;
    }
    assertEquals(response?.status, 200);
    assertEquals(toText(response!.body), "hello world");
  }));
});

Deno.test("HttpResponseDecoder limits bodies, however they are framed", () => {
  const frames = ["Content-Length: 11\r\n\r\n", "\r\n", "Transfer-Encoding: chunked\r\n\r\nb\r\n"];
  for (const frame of frames) {
    const bytes = toBytes(`HTTP/1.1 200 OK\r\n${frame}hello world`);
    assertThrows(() => new HttpResponseDecoder(10).push(bytes), MalformedMessageError);
    new HttpResponseDecoder(11).push(bytes);
  }
});

Deno.test("parseXml() drops prefixes and case, joins text, and knows only XML's own entities", () => {
  const root = parseXml(toBytes(
    '<?xml version="1.0"?><s:Root a="1"><A>&lt;1&#65;&#x42;&amp;&apos;&nbsp;</A><b/>' +
      "<C>x<!-- c --><![CDATA[<y>]]>z</C></s:Root>",
  ));
  assertEquals(root.name, "root");
  assertEquals(childText(root, "a"), "<1AB&'&nbsp;");
  assertEquals(childText(root, "C"), "x<y>z");
  assertEquals(childText(root, "missing"), "");
  assertEquals(findElement(root, "B")?.children, []);
});

Deno.test("parseXml() rejects documents that are empty, too deep, too large or have a DOCTYPE", () => {
  for (
    const text of [
      "",
      "text",
      "<a:",
      "<!DOCTYPE a []><a/>",
      `<a>${"<!x".repeat(100_000)}`, // takes sax minutes
      "<a>".repeat(65),
      `<a>${"<b/>".repeat(20_000)}</a>`,
      " ".repeat(1024 * 1024 + 1),
    ]
  ) {
    assertThrows(() => parseXml(toBytes(text)), MalformedMessageError);
  }
  parseXml(toBytes("<a>".repeat(64)));
});

Deno.test("parseXml() accepts the names of JavaScript's own properties", () => {
  const root = parseXml(toBytes(
    "<root><__proto__ __proto__='x'>1</__proto__><constructor hasOwnProperty='y'>2</constructor></root>",
  ));
  assertEquals(root.children.map(({ name, text }) => [name, text]), [
    ["__proto__", "1"],
    ["constructor", "2"],
  ]);
  assertEquals(Object.keys(Object.prototype), []);
});

Deno.test("parseXml() reads back any text that escapeXmlText() wrote", () => {
  fc.assert(fc.property(fc.string({ unit: "grapheme" }), (text) => {
    const read = parseXml(toBytes(`<a>${escapeXmlText(text)}</a>`)).text;
    assertEquals(read, parseXml(toBytes(`<a>${escapeXmlText(read)}</a>`)).text);
    assert(!/[<>]/.test(escapeXmlText(text)));
  }));
  assertEquals(escapeXmlText("a\0\u001f\ud800<b>&\"'"), "a&lt;b&gt;&amp;\"'");
});

Deno.test("encodeSoapRequest() writes an envelope that values cannot break out of", () => {
  const request = {
    serviceType: 'urn:x"\r\n<y>',
    action: "Act",
    arguments: [["A", "</A>&"], ["B", ""]] as const,
  };
  assertEquals(
    toText(encodeSoapRequest(request)),
    '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" ' +
      's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>' +
      '<u:Act xmlns:u="urn:x&quot;\r\n&lt;y&gt;"><A>&lt;/A&gt;&amp;</A><B></B></u:Act></s:Body></s:Envelope>\r\n',
  );
  assertEquals(soapFields(request).SOAPAction, '"urn:x<y>#Act"');
});

Deno.test("decodeSoapBody() reads faults, and those without a code as 501", () => {
  const fault = (detail: string) =>
    decodeSoapBody(
      toBytes(`<e:Envelope><e:Body><e:Fault>${detail}</e:Fault></e:Body></e:Envelope>`),
    );
  assertEquals(
    fault("<detail><x:UPnPError><x:errorCode> 718 </x:errorCode></x:UPnPError></detail>"),
    { kind: "fault", fault: { code: 718, description: "" } },
  );
  assertEquals(fault(""), { kind: "fault", fault: { code: 501, description: "" } });
});

Deno.test("parseServiceType() accepts old names and names without a version", () => {
  const known = { kind: "WANIPConnection", version: 1 };
  assertEquals(parseServiceType("urn:dslforum-org:service:WANIPConnection:1"), known as never);
  assertEquals(parseServiceType("urn:schemas-upnp-org:service:wanipconnection"), known as never);
  for (
    const other of ["urn:schemas-upnp-org:service:Layer3Forwarding:1", "WANIPConnection:1", ""]
  ) {
    assertEquals(parseServiceType(other), undefined);
  }
});

Deno.test("parseLocation() takes the port and the path, and the responder's own address", () => {
  for (const host of ["[fe80::1]", "[fe80::1%25en7]", "[fe80::1%en7]", "router.lan", "10.0.0.1"]) {
    assertEquals(parseLocation(`http://${host}:49000/d.xml?x=1`, "fe80::1%eth0"), {
      address: { ip: "fe80::1%eth0", port: 49000 },
      target: "/d.xml?x=1",
    });
  }
});

Deno.test("resolveDeviceUrl() resolves relative, absolute and query-only URLs on the device's own host", () => {
  const location = parseLocation("http://192.168.1.1:5000/igd/desc.xml", "192.168.1.1");
  const resolve = (text: string, base?: string) => {
    const { address, target } = resolveDeviceUrl(location, text, base);
    return `${address.ip}:${address.port}${target}`;
  };
  assertEquals(resolve("/ctl"), "192.168.1.1:5000/ctl");
  assertEquals(resolve("ctl"), "192.168.1.1:5000/igd/ctl");
  assertEquals(resolve("?ctl=1"), "192.168.1.1:5000/igd/desc.xml?ctl=1");
  assertEquals(resolve("ctl", "http://192.168.1.1:6000/base/"), "192.168.1.1:6000/base/ctl");
  assertEquals(resolve("/ctl", "http://127.0.0.1"), "192.168.1.1:80/ctl");
  assertEquals(resolve("/ctl", ":::"), "192.168.1.1:5000/ctl");
  assertEquals(resolve("http://example.org:7000/ctl"), "192.168.1.1:7000/ctl");
  for (const text of ["ftp://192.168.1.1/ctl", "http://192.168.1.1:25/", "javascript:alert(1)"]) {
    assertThrows(() => resolve(text), MalformedMessageError);
  }
});

Deno.test("whyForbidden() allows only the gateway and its link", () => {
  const link = { gateway: "192.168.1.1", local: "192.168.1.2" };
  for (const ip of ["192.168.1.1", "192.168.1.254"]) {
    assertEquals(whyForbidden(ip, link), undefined);
  }
  for (
    const ip of ["192.168.1.2", "192.168.2.1", "127.0.0.1", "8.8.8.8", "0.0.0.0", "2001:db8::1"]
  ) {
    assert(whyForbidden(ip, link) !== undefined, ip);
  }
  assertEquals(whyForbidden("192.168.2.1", { ...link, prefixLength: 16 }), undefined);
  assert(whyForbidden("192.168.1.200", { ...link, prefixLength: 29 }) !== undefined);
  const link6 = { gateway: "fe80::1%eth0", local: "2001:db8::2" };
  for (const ip of ["fe80::1%eth0", "2001:db8::1"]) {
    assertEquals(whyForbidden(ip, link6), undefined);
  }
  for (const ip of ["2001:db8:1::1", "::1", "ff02::1"]) {
    assert(whyForbidden(ip, link6) !== undefined);
  }
});

Deno.test("decodeHandle() reads only what encodeHandle() wrote", () => {
  for (
    const handle of [
      { kind: "port", serviceType: "urn", description: "d" },
      { kind: "pinhole", uniqueId: 7 },
    ] as const
  ) {
    assertEquals(decodeHandle(encodeHandle(handle)), handle);
  }
  for (const text of ["", "{}", "null", '{"kind":"pinhole"}', '{"kind":"port","serviceType":1}']) {
    assertThrows(() => decodeHandle(text), TypeError);
  }
});

Deno.test("RequestPacing rests after four calls, for as long as they took, within bounds", () => {
  for (const [callMs, restMs] of [[1, 10], [20, 80], [500, 200]] as const) {
    const pacing = new RequestPacing();
    let nowMs = 0;
    for (let call = 0; call < 4; call++) {
      assertEquals(pacing.restMs(nowMs), 0);
      pacing.record(nowMs, nowMs += callMs);
    }
    assertEquals(pacing.restMs(nowMs), restMs);
    nowMs += restMs;
    assertEquals(pacing.restMs(nowMs), 0);
    pacing.record(nowMs, nowMs += 1);
    assertEquals(pacing.restMs(nowMs), 0);
  }
});

Deno.test("RequestPacing rests after each call once the device has refused one, longer each time", () => {
  const pacing = new RequestPacing();
  const rests = [];
  for (let refusals = 0; refusals < 6; refusals++) {
    pacing.record(refusals * 1000, refusals * 1000);
    pacing.slowDown();
    rests.push(pacing.restMs(refusals * 1000));
  }
  assertEquals(rests, [50, 100, 200, 400, 800, 800]);
  assertEquals(pacing.isSlow, true);
});
