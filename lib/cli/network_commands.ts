/**
 * The commands that examine the network or serve it, as data: operands, options, examples and permissions.
 *
 * @module
 */

import { type Command, commandGroup, type Operand } from "./command.ts";
import {
  DURATION,
  JSON_OPTION,
  MEETING_OPTIONS,
  type Option,
  option,
  PROXY_OPTION,
  SECONDS,
  STUN_SERVER_OPTION,
  timeoutOption,
} from "./option_table.ts";

const PORT_OPERANDS: readonly Operand[] = [
  { name: "PROTOCOL", shown: "tcp|udp", choices: ["tcp", "udp"], help: "tcp or udp" },
  { name: "PORT", help: "the port on this machine, from 1 to 65535" },
];

const GATEWAY_OPTION = option("gateway", {
  value: "IP",
  help: "the router's address",
  fallback: "found automatically",
});

const CHECK_SERVER_OPTION = option("server", {
  value: "HOST[:PORT]",
  repeats: true,
  help: "a STUN server to check the external address with",
  fallback: "no check",
});

const MAP_COMMANDS: readonly Command[] = [
  {
    name: "map add",
    summary: "open a port on the router, and keep it open until Ctrl-C",
    operands: PORT_OPERANDS,
    options: [
      option("external", {
        value: "PORT",
        help: "the external port to ask for",
        fallback: "the same",
      }),
      option("lifetime", {
        value: SECONDS,
        help: "the lease to ask for; it is renewed in time",
        fallback: "1h",
      }),
      option("protocol", {
        value: "NAME",
        choices: ["auto", "pcp", "nat-pmp", "upnp"],
        help: "how to ask the router: auto, pcp, nat-pmp or upnp",
        fallback: "auto, all at once",
      }),
      CHECK_SERVER_OPTION,
      option("check", {
        value: SECONDS,
        help: "check this often that the mapping still exists",
        fallback: "60s",
      }),
      option("keep", { help: "leave the port open on exit, until the lease expires" }),
      GATEWAY_OPTION,
      JSON_OPTION,
    ],
    examples: [
      { args: "tcp 8080", does: "let the internet reach port 8080 of this machine" },
      { args: "udp 5000 --external 6000 --lifetime 2h", does: "ask for another port, for longer" },
    ],
    permissions: ["net"],
  },
  {
    name: "map list",
    summary: "list the ports that are open on the router",
    operands: [],
    options: [GATEWAY_OPTION, JSON_OPTION],
    examples: [{ args: "", does: "show all ports that the router lists" }],
    permissions: ["net"],
  },
  {
    name: "map delete",
    summary: "close a port on the router",
    operands: PORT_OPERANDS,
    options: [GATEWAY_OPTION, JSON_OPTION],
    examples: [{ args: "tcp 8080", does: "close what map add --keep left open" }],
    permissions: ["net"],
  },
  {
    name: "map probe",
    summary: "show what the router answers to each protocol, and what to change",
    operands: [],
    options: [CHECK_SERVER_OPTION, GATEWAY_OPTION, JSON_OPTION],
    examples: [{ args: "", does: "find the router and ask it" }],
    permissions: ["net"],
  },
];

/** In the order in which help lists them. */
export const NETWORK_COMMANDS: readonly Command[] = [
  {
    name: "nat-test",
    summary: "find out which NAT this machine is behind, and what that means",
    operands: [],
    options: [
      STUN_SERVER_OPTION,
      option("transport", {
        value: "udp|tcp",
        choices: ["udp", "tcp"],
        help: "test UDP or TCP only",
        fallback: "both",
      }),
      option("family", {
        value: "4|6",
        choices: ["4", "6"],
        help: "test IPv4 or IPv6 only",
        fallback: "both",
      }),
      timeoutOption("how long to test; a bare number is milliseconds", "5s"),
      option("watch", {
        help: "go on, and print what changes: when this machine moves, and every 30 seconds",
      }),
      option("no-hairpinning", { help: "skip the hairpinning test" }),
      option("lifetime", {
        value: SECONDS,
        help: "also measure how long idle mappings last, up to this long",
      }),
      option("servers", {
        help: "test no NAT: show which of the public servers that are used by default are alive, " +
          "or of those of --server",
      }),
      { name: "verbose", group: "Output", help: "print diagnostics on stderr" },
      JSON_OPTION,
    ],
    examples: [
      { args: "", does: "test with public servers" },
      { args: "--server 127.0.0.1", does: "test with a `punchline serve` on this machine" },
    ],
    permissions: ["net"],
  },
  {
    name: "doctor",
    summary: "find out why it does not work: what stands in the way, and what to do",
    details:
      "Checks names, clock, IPv4, IPv6, UDP, TCP, proxies, sign-in pages, large packets, the " +
      "router, signaling and relays, within five seconds. Asks no other hosts than listen and " +
      "nat-test do. Reports hold no tickets, keys or logins, and addresses only in part.",
    operands: [],
    options: [
      option("with", {
        value: "FILE|TICKET",
        repeats: true,
        completes: "file",
        help:
          "what to expect of the pair: the report of the other side, as doctor --json prints it " +
          "there; or its ticket while it runs listen, to try it; or both",
      }),
      STUN_SERVER_OPTION,
      ...MEETING_OPTIONS,
      {
        ...PROXY_OPTION,
        help: "reach signaling servers and relays through this proxy, as connect does; direct " +
          "attempts go around it",
      },
      timeoutOption("with a ticket, how long to wait for the peer", "30s"),
      option("public", {
        help: "also ask the pages by which operating systems recognise sign-in pages",
      }),
      {
        name: "html",
        value: "FILE",
        completes: "file",
        group: "Output",
        help: "write a page to show to someone who helps",
      },
      { name: "full", group: "Output", help: "show whole addresses" },
      JSON_OPTION,
    ],
    examples: [
      { args: "", does: "examine this network" },
      { args: "--json > here.json", does: "a report for the other side" },
      { args: "--with there.json", does: "which of the two networks is in the way" },
    ],
    permissions: ["net"],
  },
  commandGroup({
    name: "map",
    summary:
      "open a port on the router, list or close open ports, or show what the router supports",
    examples: [
      { args: "add tcp 8080", does: "open a port until Ctrl-C" },
      { args: "probe", does: "show what the router supports" },
    ],
    permissions: ["net"],
    subcommands: MAP_COMMANDS,
  }),
  {
    name: "stun",
    summary: "ask a STUN server which address it sees",
    operands: [{ name: "SERVER", shown: "HOST[:PORT]", help: "the STUN server" }],
    options: [
      option("tcp", { help: "over TCP" }),
      option("tls", { help: "over TLS" }),
      timeoutOption("how long to wait for the answer", "10s"),
      JSON_OPTION,
    ],
    examples: [{ args: "stun.example.net --tcp", does: "one binding request over TCP" }],
    permissions: ["net"],
  },
  {
    name: "serve",
    summary: "run your own STUN server, rendezvous and relay",
    operands: [],
    options: [
      option("address", {
        value: "IP",
        repeats: true,
        help: "serve at this address of this machine, one of IPv4 and one of IPv6",
        fallback: "loopback, for a test on this machine",
      }),
      option("alternate", {
        value: "IP",
        repeats: true,
        help: "a second address of this machine, which clients need to classify their NATs",
      }),
      option("port", { value: "PORT", help: "the STUN port", fallback: "3478" }),
      option("alternate-port", { value: "PORT", help: "the second STUN port", fallback: "3479" }),
      option("rendezvous-port", {
        value: "PORT",
        help: "the port of the rendezvous and its relay",
        fallback: "3480",
      }),
      option("cert", {
        value: "FILE",
        completes: "file",
        help:
          "speak TLS, with this certificate and its chain (PEM); it is read again when it changes",
      }),
      option("cert-key", { value: "FILE", completes: "file", help: "the private key of --cert" }),
      option("stuns-port", {
        value: "PORT",
        help: "with --cert, the port for STUN over TLS",
        fallback: "5349, or the one port if --port and --rendezvous-port are the same",
      }),
      option("trust-proxy", {
        value: "ADDRESS[/BITS]",
        repeats: true,
        help: "believe X-Forwarded-For from this address or prefix, such as 10.0.0.0/8, to count " +
          "clients by",
      }),
      option("access-key", {
        value: "FILE",
        help:
          "serve only those who know the key in this file: it becomes part of the URL, and so of " +
          "tickets",
      }),
      option("metrics", {
        value: "[ADDRESS:]PORT",
        help: "serve metrics for Prometheus on a port of their own",
        fallback: "none; the address 127.0.0.1",
      }),
      option("log", {
        value: "FORMAT",
        choices: ["text", "json"],
        help: "log on stderr, a line for each event: text or json",
        fallback: "warnings only",
      }),
      option("log-level", {
        value: "LEVEL",
        choices: ["debug", "info", "warn"],
        help: "what to log: debug, info or warn; only debug has addresses of clients",
        fallback: "info",
      }),
      option("config", {
        value: "FILE",
        completes: "file",
        help: 'options from a JSON object, such as {"port": 443}; the command line comes first',
      }),
      option("workers", {
        value: "N",
        help:
          "serve the rendezvous and its relay in so many threads, which share the limits, but for " +
          "what a source may cost",
        fallback: "1",
      }),
      option("nats", {
        value: "URL",
        repeats: true,
        help:
          "join other nodes behind the same name by this NATS server, as nats://HOST:PORT, or " +
          "tls://HOST:PORT to refuse one without TLS",
      }),
      option("nats-key", {
        value: "FILE",
        completes: "file",
        help: "the secret that all nodes share, at least 16 characters, for --nats",
      }),
      option("node-host", {
        value: "HOST[:PORT]",
        help: "with --nats, where peers reach this node alone: a name below that of all nodes",
        fallback: "none, and pairs of the relay that come to different nodes do not meet",
      }),
      option("node", {
        value: "I/N",
        help: "with --nats, which of how many nodes this is, such as 1/3",
      }),
      option("drain", {
        value: DURATION,
        help: "on TERM, give relayed pairs this long to end",
        fallback: "5s",
      }),
      option("no-relay", { help: "relay nothing" }),
      option("relay-rate", {
        value: "BYTES",
        help: "relay this many bytes a second for each pair of peers",
        fallback: "2500000",
      }),
      option("relay-rate-total", {
        value: "BYTES",
        help: "relay this many bytes a second for all pairs",
        fallback: "12500000",
      }),
      limitOption("max-relays", "relay for this many pairs at a time", "64"),
      limitOption(
        "max-relays-per-source",
        "relay this many for one IPv4 address or IPv6 /56",
        "4",
      ),
      limitOption("max-connections", "accept this many connections, per service", "2048"),
      limitOption(
        "max-connections-per-source",
        "accept this many from one IPv4 address or IPv6 /64",
        "128 for STUN, 64 for the rendezvous",
      ),
      limitOption("max-rooms", "open this many rooms at a time", "2048"),
      limitOption("max-topics", "keep this many topics at a time", "131072"),
      JSON_OPTION,
    ],
    examples: [
      { args: "", does: "on this machine only, to try things out" },
      {
        args:
          "--address 192.0.2.1 --port 443 --rendezvous-port 443 --cert cert.pem --cert-key key.pem",
        does: "everything on port 443, with TLS",
      },
      { args: "--address 192.0.2.1 --alternate 192.0.2.2", does: "for others, on a public server" },
    ],
    permissions: ["net"],
  },
  {
    name: "lab",
    summary: "run the NAT lab: simulated NATs between real programs (Linux)",
    operands: [{
      name: "SUITE",
      isOptional: true,
      repeats: true,
      choices: [
        ...["verdicts", "loss", "times", "report", "adverse", "punch", "figures", "warm", "udp"],
        ...["udp-matrix", "peers", "peer-matrix", "reach", "again", "transfer", "outages"],
        ...["roaming", "choice", "streams"],
      ],
      help:
        "verdicts, loss, times, report, adverse, punch, figures, warm, udp, udp-matrix, peers, " +
        "peer-matrix, reach, again, transfer, outages, roaming, choice or streams; without any, " +
        "all of them",
    }],
    options: [
      option("runs", { value: "N", help: "how many runs of each kind" }),
      option("server", {
        value: "NAME",
        repeats: true,
        choices: ["punchline", "coturn", "vovida"],
        help: "the STUN server to test against: punchline, coturn or vovida",
      }),
      option("row", { value: "NAME", repeats: true, help: "run only the rows of this name" }),
      option("svg", {
        value: "FILE",
        completes: "file",
        help: "draw the punch matrix into this file",
      }),
      JSON_OPTION,
    ],
    examples: [{ args: "punch --runs 3", does: "the punch matrix, each pair three times" }],
    permissions: ["all"],
  },
];

function limitOption(name: string, help: string, fallback: string): Option {
  return { name, value: "N", group: "Limits", help, fallback };
}
