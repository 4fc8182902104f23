import { assertEquals } from "@std/assert";
import { systemNetwork } from "../../lib/net/system.ts";
import { replaceProperty } from "../simnet/replace_property.ts";

/** What the system lists, where every permission is granted and `Deno.networkInterfaces` does this. */
async function listed(networkInterfaces: () => Deno.NetworkInterfaceInfo[]) {
  const granted = () => ({ state: "granted" });
  const restore = [
    replaceProperty(Object.getPrototypeOf(Deno.permissions), "querySync", granted),
    replaceProperty(Deno, "networkInterfaces", networkInterfaces),
  ];
  try {
    return await systemNetwork.localAddresses();
  } finally {
    for (const undo of restore) undo();
  }
}

Deno.test("localAddresses() is undefined where listing the interfaces throws, as on Android", async () => {
  const found = await listed(() => {
    throw new Error("Permission denied (os error 13)");
  });
  assertEquals(found, undefined);
});

Deno.test("localAddresses() leaves out what is not an address", async () => {
  const rest = { netmask: "", scopeid: null, cidr: "", mac: "" };
  const found = await listed(() => [
    { name: "dummy0", family: "IPv4", address: "", ...rest },
    { name: "wlan0", family: "IPv4", address: "192.168.1.2", ...rest },
  ]);
  assertEquals(found, [{ interfaceName: "wlan0", ip: "192.168.1.2" }]);
});
