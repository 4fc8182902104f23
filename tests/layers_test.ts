/**
 * The layers of the library, as a table and as tests. Read it top to bottom: a file may import from its own
 * layer and from those above it, never from below.
 *
 * @module
 */

import { assertEquals } from "@std/assert";

const LAYERS: readonly Layer[] = [
  {
    name: "words",
    what: "bytes, errors, addresses, and the seam to the network (types only)",
    rule: "pure",
    files: [
      "lib/{bytes,crypto,errors,logger,pool}.ts",
      "lib/net/{address,deno_conn,network,routes,wait_queue}.ts",
      "lib/portmap/mapper.ts",
      "lib/signal/{channel,bus,default_signaling}.ts",
      "lib/transfer/{files,transfer_error,printable,manifest}.ts",
    ],
  },
  {
    name: "messages",
    what: "wire formats: encodeX(x) and decodeX(bytes)",
    rule: "pure",
    files: [
      "lib/stun/*_{attributes,codec,message}.ts",
      "lib/transfer/transfer_message.ts",
      "lib/stun/{message,attributes,layout,error_code,password_algorithm}.ts",
      "lib/stun/{integrity,fingerprint,credentials}.ts",
      "lib/stun/{binding,plain_binding,encode_answer,refusal}.ts",
      "lib/turn/{method,channel_data_message,allocation,time_limited_credential,remedy,timings}.ts",
      "lib/noise/{pattern,nonce,key_pair,cipher_state,symmetric_state,handshake_state}.ts",
      "lib/noise/record_cipher.ts",
      "lib/session/frame.ts",
      "lib/signal/{rendezvous_notice,websocket_frame,websocket_upgrade}.ts",
      "lib/connect/{ticket,ticket_secrets,envelope_message,knock_message,sealing}.ts",
      "lib/connect/{relay_message,path_keys,strategy}.ts",
      "lib/signal/{topic_message,lan_message,hand_message}.ts",
      "lib/signal/mqtt/{packet_message,refusal,broker_url}.ts",
      "lib/portmap/{pcp_message,pcp_options,pcp_address,nat_pmp_message}.ts",
      "lib/portmap/{xml,sax.d,header_fields,ssdp_message,http_message,soap_message}.ts",
      "lib/portmap/{device_url,device_description,igd_services,igd_actions,igd_handle}.ts",
    ],
  },
  {
    name: "deciders",
    what: "observations in, the next step or a verdict out",
    rule: "pure",
    files: [
      "lib/nat/*_plan.ts",
      "lib/nat/{behavior,probe,pace,server_knowledge}.ts",
      "lib/nat/{mapping,filtering,allocation,hairpin,tcp_filtering,hints,verdict,predict}.ts",
      "lib/punch/{profile,plan_types,limits,nat_name,nat_kinds,birthday,diallable}.ts",
      "lib/punch/{by_hand,plan,technique,technique_dials,spray,explain,message,staleness,way}.ts",
      "lib/stun/{rate_limit,tcp_filter_report}.ts",
      "lib/signal/{allowance,rendezvous_rooms,rendezvous_topics}.ts",
      "lib/connect/knock_guard.ts",
      "lib/session/{byte_queue,send_block,send_stream,receive_stream,timings}.ts",
      "lib/transfer/path_rules.ts",
      "lib/portmap/{epoch,refusals,pcp_nonce,igd_faults,igd_ladder,soap_pace,lease,verdict}.ts",
    ],
  },
  {
    name: "clients",
    what: "one protocol, spoken over a Network, and our own servers",
    rule: "network",
    files: [
      "lib/{alarm,exchange,idle_delay,run_all,shared_job}.ts",
      "lib/connect/{line,decline,conversation,anchor_pool,bus_pool,topic_subscriptions}.ts",
      "lib/connect/{named_addresses,newest_search}.ts",
      "lib/connect/{relay_exchange,relay_path,relay_server,peer_timings}.ts",
      "lib/signal/{room_visit,topic_visit,topic_subscribers,websocket_transport}.ts",
      "lib/signal/{lan_transport,hand_transport,kept_bus,open_bus}.ts",
      "lib/signal/mqtt/{pipe,packet_reader,client,transport}.ts",
      "lib/signal/{rendezvous,rendezvous_session,websocket,websocket_dial,role}.ts",
      "lib/punch/{anchor,anchor_learning,attempt,dialing,dial_trace,give_up,handshake,meeting,offers,own_ipv6,round}.ts",
      "lib/stun/{client,transport,framing,authentication,conversation,alternate_server}.ts",
      "lib/stun/resolve_server.ts",
      "lib/transfer/{collect,connections,destination,hash_file,message_reader,progress,refuse}.ts",
      "lib/transfer/{send_file,sending,receive_file,receiving}.ts",
      "lib/turn/{uri,carrier,link,allocate,session,failure,permissions,channels}.ts",
      "lib/turn/{relay,datagram_relay,stream_relay,relayed_connection}.ts",
      "lib/stun/{server,server_counters,server_endpoints,udp_responder,tcp_service}.ts",
      "lib/stun/{tcp_filter,tcp_filter_greetings,tcp_filter_service,dial_back}.ts",
      "lib/nat/{udp_probe,udp_sockets,tcp_probe,tcp_dialer,probe_message}.ts",
      "lib/nat/{tcp_side_tests,tcp_hairpin}.ts",
      "lib/noise/{byte_stream,frame_reader,record_reader,record_writer}.ts",
      "lib/noise/{generate_key_pair,shake_hands,secure_connection}.ts",
      "lib/session/{frame_reader,keep_alive,message_channel,path_link,path_switch,session}.ts",
      "lib/nat/{reach,lifetime,own_addresses,local_ports,servers,probe_family,family_report}.ts",
      "lib/portmap/{gateway_exchange,gateway_source,gateways,local_ip,mapping_request}.ts",
      "lib/portmap/{waits,probe,announcements,announcement_feed}.ts",
      "lib/portmap/{pcp,pcp_exchange,pcp_first,pcp_peer,nat_pmp}.ts",
      "lib/portmap/{http,ssdp,soap}.ts",
      "lib/portmap/{mapping_attempt,race,contenders,second_hop,outside_view}.ts",
      "lib/portmap/{check_lease,lease_keeper,port_mapping,turns}.ts",
      "lib/portmap/igd{,_discovery,_finder,_session,_status,_port_mapping,_pinhole}.ts",
    ],
  },
  {
    name: "system",
    what: "the platform's sockets and files behind their seams",
    rule: "platform",
    files: [
      "lib/net/system.ts",
      "lib/net/system/*.ts",
      "lib/connect/key_file.ts",
      "lib/transfer/system_files.ts",
    ],
  },
  {
    name: "jobs",
    what: "what a user calls; the only ones to know the system, as the default of options.network",
    rule: "network",
    files: [
      "lib/nat/test_nat.ts",
      "lib/stun/stun_binding.ts",
      "lib/signal/websocket_channel.ts",
      "lib/transfer/{send,receive}_files.ts",
      "lib/turn/open_relay.ts",
      "lib/punch/punch.ts",
      "lib/connect/{path_finder,search,dial,listener,make_context,peer,peer_context}.ts",
      "lib/connect/{incoming,peer_connection,peer_options}.ts",
      "lib/portmap/{map_port,mapping_table,probe_gateways}.ts",
    ],
  },
  {
    name: "face",
    what: "entry points, and the command line: argv in, text or JSON out",
    rule: "terminal",
    files: [
      "mod.ts",
      "cli.ts",
      "lib/{connect,nat,noise,portmap,punch,session,signal,stun,transfer,turn}/mod.ts",
      "lib/signal/mqtt/mod.ts",
      "lib/cli/*.ts",
    ],
  },
];

Deno.test("every file of the library is in one layer", () => {
  const found = FILES.map(({ path }) => [path, layersOf(path).map(({ name }) => name)] as const);
  assertEquals(found.filter(([, layers]) => layers.length !== 1), []);
});

Deno.test("imports go up the layers, never down", () => {
  const down = FILES.flatMap(({ path, imports }) =>
    imports.filter((imported) => isLocal(imported) && depthOf(imported) > depthOf(path))
      .map((imported) => `${path} (${layerOf(path)}) imports ${imported} (${layerOf(imported)})`)
  );
  assertEquals(down, []);
});

Deno.test("no client knows the system's own network", () => {
  const knowing = FILES.filter(({ path, imports }) =>
    layerOf(path) === "clients" && imports.some((imported) => layerOf(imported) === "system")
  );
  assertEquals(knowing.map(({ path }) => path), []);
});

Deno.test("no file imports itself by way of others", () => {
  const importsOf = new Map(FILES.map(({ path, imports }) => [path, imports.filter(isLocal)]));
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (path: string, trail: string[]) => {
    if (trail.includes(path)) cycles.push([...trail.slice(trail.indexOf(path)), path].join(" > "));
    if (done.has(path) || trail.includes(path)) return;
    for (const imported of importsOf.get(path) ?? []) visit(imported, [...trail, path]);
    done.add(path);
  };
  for (const path of importsOf.keys()) visit(path, []);
  assertEquals(cycles, []);
});

Deno.test("a layer touches only what its rule allows", () => {
  const touches = FILES.flatMap(({ path, code, imports }) => {
    const rule = layersOf(path)[0]?.rule ?? "pure";
    const names = code.match(RULES[rule].forbiddenNames) ?? [];
    const packages = imports.filter((name) => {
      return !isLocal(name) && !RULES[rule].packages.test(name) && !isException(path, name);
    });
    return [...names, ...packages].map((name) => `${path} (${rule}) touches ${name}`);
  });
  assertEquals(touches, []);
});

interface Layer {
  readonly name: string;
  readonly what: string;
  readonly rule: Rule;
  /** Paths, in which `*` stands for any name and `{a,b}` for either. */
  readonly files: readonly string[];
}

type Rule = keyof typeof RULES;

/** What the files of a layer may not name, and which packages they may import. */
const RULES = {
  /** No clock, no randomness, no I/O, no platform. */
  pure: {
    forbiddenNames:
      /\b(?:Deno|Date|performance|setTimeout|setInterval|console|fetch|Math\.random|crypto\.getRandomValues|crypto\.randomUUID)\b/g,
    packages: /^$/,
  },
  /** The clock, randomness, and the network through the seam. */
  network: { forbiddenNames: /\b(?:Deno|console|fetch)\b/g, packages: /^@std\/async\// },
  /** Of Deno, what a program does with its terminal and its end. */
  terminal: {
    forbiddenNames:
      /\bDeno\b(?!\.(?:args|exit|exitCode|stdin|stdout|stderr|consoleSize|addSignalListener|removeSignalListener|Signal|errors)\b)/g,
    packages: /^@std\/(?:async|cli)\//,
  },
  platform: { forbiddenNames: /\bfetch\b/g, packages: /^node:/ },
};

/**
 * Hashes and ciphers come from `node:crypto`: the Web's are asynchronous, and know no MD5 and no ChaCha20. Small
 * arrays come from `node:buffer`, which has a pool of them. `sax` reads XML, and `uqr` draws QR codes; both do nothing
 * else. The version of the program stands in `deno.json`.
 */
function isException(path: string, imported: string): boolean {
  return path === "lib/crypto.ts" && /^node:(?:buffer|crypto)$/.test(imported) ||
    path === "lib/pool.ts" && imported === "node:buffer" ||
    path === "lib/portmap/xml.ts" && imported === "sax" ||
    path === "lib/cli/main.ts" && imported === "deno.json" ||
    path === "lib/cli/peer_events.ts" && imported === "uqr";
}

function layersOf(path: string): Layer[] {
  return LAYERS.filter(({ files }) => files.some((pattern) => toRegExp(pattern).test(path)));
}

function layerOf(path: string): string | undefined {
  return layersOf(path)[0]?.name;
}

function depthOf(path: string): number {
  return LAYERS.findIndex(({ name }) => name === layerOf(path));
}

function toRegExp(pattern: string): RegExp {
  const source = pattern.replaceAll(".", "\\.").replaceAll("*", "[^/]*")
    .replace(/\{(.*?)\}/g, (_, names: string) => `(?:${names.replaceAll(",", "|")})`);
  return new RegExp(`^${source}$`);
}

/** Whether an import is a file of the repository, by its path from the root. */
function isLocal(imported: string): boolean {
  return imported.endsWith(".ts");
}

interface SourceFile {
  /** From the root of the repository. */
  readonly path: string;
  /** Packages, and files by their paths. */
  readonly imports: readonly string[];
  /** Without comments. */
  readonly code: string;
}

function readSource(path: string): SourceFile {
  const text = Deno.readTextFileSync(new URL(path, ROOT));
  const code = text.replaceAll(/\/\*[^]*?\*\/|(?<!:)\/\/.*$/gm, "");
  const statements = code.matchAll(
    /^(?:import|export)\b[^;"]*?\bfrom\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\("([^"]+)"\)/gm,
  );
  const imports = Array.from(statements, ([, from, effect, lazy]) => (from ?? effect ?? lazy)!)
    .map((name) => name.startsWith(".") ? pathOf(new URL(name, new URL(path, ROOT))) : name);
  return { path, imports: [...new Set(imports)], code };
}

function listSources(folder: string): string[] {
  return [...Deno.readDirSync(new URL(folder, ROOT))].flatMap(({ name, isDirectory }) => {
    const path = `${folder}${name}`;
    return isDirectory ? listSources(`${path}/`) : [path];
  });
}

function listEntryPoints(): string[] {
  return Array.from(Deno.readDirSync(ROOT), ({ name }) => name);
}

function pathOf(url: URL): string {
  return url.href.slice(ROOT.href.length);
}

const ROOT = new URL("../", import.meta.url);

const FILES = [...listEntryPoints(), ...listSources("lib/")]
  .filter((path) => path.endsWith(".ts")).sort().map(readSource);
