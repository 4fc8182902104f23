import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { reportText } from "../../lib/cli/doctor.ts";
import { textWidth } from "../../lib/cli/layout.ts";
import { decodeReport, type DoctorReport } from "../../lib/doctor/report_message.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { cutOffFacts, doctorReport, wellFacts } from "../doctor/doctor_reports.ts";
import { withScratch, withServers } from "./command.ts";
import { closedPort, runMain } from "./run_main.ts";

Deno.test("doctor prints what stands in the way, the remedies by number, the checks, and who connects", () => {
  const text = reportText(doctorReport(cutOffFacts()));
  const [first] = text;
  assertMatch(first!, /^Nothing came back/);
  assertEquals(text.filter((line) => /^ {2}1\. /.test(line)).length, 1);
  assert(text.includes("Checks"));
  assert(!text.includes("A connection with a peer"));
  const well = reportText(doctorReport(wellFacts()));
  assert(well.includes("A connection with a peer"));
  assert(well.some((line) => /behind a home router +directly/.test(line)));
});

for (const columns of [40, 80, 120]) {
  Deno.test(`doctor fits into ${columns} columns`, () => {
    const { checks, peers } = doctorReport(cutOffFacts());
    for (const facts of [wellFacts(), cutOffFacts()]) {
      const lines = reportText(doctorReport(facts), columns);
      const tables = lines.filter((line) => line.startsWith("  ") && !/^ {2}\d\. /.test(line));
      for (const line of tables) assert(textWidth(line) <= columns, line);
      assert(tables.length >= checks.length + (lines.length > 40 ? peers.length : 0));
    }
  });
}

Deno.test("doctor --json prints one object that the other side's doctor reads, and nothing else", async () => {
  await withServers(async ({ all }) => {
    const { code, out, err } = await runMain(["doctor", ...all, "--json"]);
    assertEquals([code, out.length, err], [0, 1, []]);
    const report: DoctorReport = JSON.parse(out[0]!);
    assertEquals(Object.keys(report), [
      ...["version", "program", "elapsedMs", "verdict", "findings", "remedies", "checks", "peers"],
      ...["profile", "pair"],
    ]);
    for (const check of report.checks) {
      assertEquals(Object.keys(check), ["name", "state", "seen", "remedy", "elapsedMs"]);
    }
    assertEquals(decodeReport(out[0]!).profile, report.profile);
  });
});

Deno.test("doctor ends with 3 if nothing comes back, and names the cause in text and JSON alike", async () => {
  const nowhere = await closedPort();
  const args = ["doctor", "--server", nowhere, "--rendezvous", `ws://${nowhere}`];
  const text = await runMain(args);
  const json = await runMain([...args, "--json"]);
  assertEquals([text.code, json.code], [3, 3]);
  const { verdict, remedies } = JSON.parse(json.out[0]!) as DoctorReport;
  assertEquals(verdict.kind, "refused");
  assertEquals(text.out[0], verdict.summary);
  for (const [index, remedy] of remedies.entries()) {
    assertStringIncludes(text.out.join("\n"), `  ${index + 1}. ${remedy}`);
  }
});

Deno.test("doctor --html writes a page, and says so on stderr", async () => {
  await withServers(async ({ all }) => {
    await withScratch(async (folder) => {
      const path = `${folder}/report.html`;
      const { code, err } = await runMain(["doctor", ...all, "--html", path]);
      assertEquals([code, err], [0, [`Wrote ${path}`]]);
      const page = await Deno.readTextFile(path);
      assertStringIncludes(page, "<!doctype html>");
      assertStringIncludes(page, "Content-Security-Policy");
    });
  });
});

Deno.test("doctor --with a ticket connects to the other side's listen, and shows neither ticket nor login", async () => {
  await withServers(async ({ all, stun, url }) => {
    const peer = await Peer.open({ signaling: [url], servers: [stun], mapPorts: false });
    const accepted = (async () => {
      for await (const incoming of peer) {
        await using connection = await incoming.accept();
        assertEquals(await connection.read(new Uint8Array(1)).catch(() => null), null);
        return;
      }
    })();
    const { code, out, err } = await runMain(["doctor", ...all, "--json", "--with", peer.ticket]);
    await accepted;
    await peer[Symbol.asyncDispose]();
    const { pair } = JSON.parse(out[0]!) as DoctorReport;
    assertEquals([code, pair?.tried?.outcome, pair?.fault], [0, "direct", null]);
    assert(![...out, ...err].join().includes(peer.ticket.slice(12, 40)));
  });
});

Deno.test("doctor --with a ticket that is not answered blames no network, and ends with 4", async () => {
  await withServers(async ({ all, stun, url }) => {
    const options = { signaling: [url], servers: [stun], mapPorts: false };
    const peer = await Peer.open(options);
    const { ticket } = peer;
    await peer[Symbol.asyncDispose]();
    const args = ["doctor", ...all, "--json", "--with", ticket, "--timeout", "1s"];
    const { code, out } = await runMain(args);
    const { pair } = JSON.parse(out[0]!) as DoctorReport;
    assertEquals([code, pair?.tried?.isAnswered, pair?.fault], [4, false, null]);
    assertStringIncludes(pair!.summary, "has not answered");
  });
});

Deno.test("doctor --with a report predicts the pair, and with both a report and a ticket does both", async () => {
  await withServers(async ({ all }) => {
    await withScratch(async (folder) => {
      const path = `${folder}/there.json`;
      const there = doctorReport();
      const random = { mapping: "address-and-port-dependent", allocation: "random", delta: null };
      const profile = {
        ...there.profile,
        udp: { ...there.profile.udp, ...random },
        tcp: null,
      };
      await Deno.writeTextFile(path, JSON.stringify({ ...there, profile }));
      const { code, out } = await runMain(["doctor", ...all, "--json", "--with", path]);
      const { pair } = JSON.parse(out[0]!) as DoctorReport;
      assertEquals([code, pair?.expected?.expectation, pair?.tried], [0, "direct", null]);
      const text = (await runMain(["doctor", ...all, "--with", path])).out;
      assert(text.includes("The two should connect directly"), text.join("\n"));
    });
  });
});

Deno.test("doctor refuses what --with, --proxy and --html cannot take, and repeats no password", async () => {
  await withScratch(async (folder) => {
    const path = (name: string) => `${folder}/${name}`;
    await Deno.writeTextFile(path("notes.txt"), "hello");
    await Deno.writeTextFile(path("other.json"), "{}");
    await Deno.writeTextFile(path("long.json"), " ".repeat(70_000));
    const wrong: readonly (readonly [args: readonly string[], says: RegExp])[] = [
      [["--with", path("missing.json")], /no such file/i],
      [["--with", path("notes.txt")], /it is not JSON/],
      [["--with", path("other.json")], /it was not made by/],
      [["--with", path("long.json")], /larger than 65536 bytes/],
      [["--with", folder], /it is not a file/],
      [["--with", "punchline:AAAA"], /Cannot read ticket/],
      [["--with", `@${path("notes.txt")}`], /--with takes a ticket/],
      [["--proxy", "socks9://me:hunter2@proxy.example"], /--proxy .*use http:/],
      [["--server", "a:b:c"], /--server/],
      [["here.json"], /unexpected argument "here.json"/],
    ];
    for (const [args, says] of wrong) {
      const { code, out, err } = await runMain(["doctor", ...args]);
      assertEquals([code, out], [2, []], args.join(" "));
      assertMatch(err.join("\n"), says);
      assert(!err.join().includes("hunter2"));
    }
  });
});
