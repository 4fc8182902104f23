/**
 * What each option does, for `--help`.
 *
 * @module
 */

/** A line for each option that a usage names, in the order in which it does. */
export function optionHelp(usage: string): string[] {
  const [command] = usage.split(" ", 1);
  const names = [...new Set(usage.match(/--[a-z-]+/g))];
  const width = Math.max(...names.map((name) => name.length));
  return names.map((name) => `  ${name.padEnd(width)}  ${helpOf(name, command!)}`);
}

/**
 * @throws {Error} if there is none: each option has one
 */
function helpOf(name: string, command: string): string {
  const help = OPTIONS[`${command} ${name}`] ?? OPTIONS[name];
  if (help === undefined) throw new Error(`There is no help for ${name} of ${command}`);
  return help;
}

/** By their names; where commands differ, with the command's before it. */
const OPTIONS: Readonly<Record<string, string>> = {
  "--address":
    "an address of this host to serve at; for a demonstration on this host alone unless given",
  "--allow": "a key, as `punchline id` prints it: nobody else gets in",
  "--alternate": "a second address of this host, so that NATs can be classified",
  "--alternate-port": "the second STUN port",
  "--check": "how often to look whether the mapping is still there, in seconds",
  "--external": "the external port to ask for",
  "--family": "4 or 6; both unless given",
  "--gateway": "the router's address, where it is not found",
  "--hand": "you pass on the few messages yourself, in a chat or by mail",
  "--json": "results and events as JSON, for programs",
  "--keep": "leave the mapping open at the end",
  "--key": "a file with this peer's secret key, made if it is missing: keeps identity and ticket",
  "--lan": "meet in the local network, by multicast",
  "--lifetime": "how long routers keep the mapping unless it is renewed, in seconds",
  "nat-test --lifetime": "also how long idle mappings last, looked for up to so many seconds",
  "--mqtt": "meet at this MQTT broker, such as mqtts://broker.example",
  "--no-hairpinning": "do not look whether the NAT leads back inside",
  "--overwrite": "replace files that are there and differ",
  "--port": "the STUN port",
  "--protocol": "how to ask the router; all at once unless given",
  "--qr": "draw the ticket as a QR code",
  "--relay-only": "go by --turn alone, so that the other side does not learn your address",
  "--rename": "write files beside those that are there and differ",
  "--rendezvous": "meet at this server, such as ws://192.0.2.1:3480",
  "--rendezvous-port": "the port of the rendezvous",
  "--runs": "how many of each kind",
  "--server": "a STUN server, instead of public ones",
  "lab --server": "which STUN server is asked: ours, coturn or vovida",
  "--strategy": "ways to connect, such as lan,punch,relay; all unless given",
  "--svg": "draw the punch matrix",
  "--tcp": "over TCP",
  "listen --tcp": "each connection goes to this port of this machine",
  "connect --tcp": "each connection to this port of this machine goes to the peer",
  "--timeout": "how long to wait, in milliseconds",
  "--tls": "over TLS",
  "--to": "the folder to write to; this one unless given",
  "--transport": "udp or tcp; both unless given",
  "--turn": "a relay for what nothing else connects: turn:USER:PASSWORD@HOST",
  "--verbose": "with all evidence",
};
