/**
 * PCP with NAT-PMP as the fallback, in the order of RFC 6887 appendix A.
 *
 * @module
 */

import { MalformedMessageError, NoResponseError } from "../../base/errors.ts";
import {
  type MapperCallOptions,
  type MappingGrant,
  MappingRefusedError,
  type PortMapper,
  type ProbeResult,
} from "../mapper.ts";
import { PCP_RESULT } from "../refusals.ts";

/**
 * A mapper that asks by PCP, and by NAT-PMP once the gateway has shown that it does not speak PCP: by UNSUPP_VERSION, by
 * an answer that cannot be read, or by silence. It forgets that after each call. Grants say which of the two made them.
 *
 * This is the order of the RFC. Asking by both at once is faster, and bothers only gateways that speak neither.
 *
 * @param pcp a PCP mapper
 * @param natPmp a NAT-PMP mapper with the same gateway
 */
export function pcpFirst(pcp: PortMapper, natPmp: PortMapper): PortMapper {
  const grantor = ({ mapper }: MappingGrant) => mapper === natPmp.name ? natPmp : pcp;
  const first = async <T>(ask: (mapper: PortMapper) => Promise<T>): Promise<T> => {
    try {
      return await ask(pcp);
    } catch (error) {
      if (!isDowngrade(error)) throw error;
      return await ask(natPmp);
    }
  };
  return {
    name: pcp.name,
    gateway: pcp.gateway,
    map: (request, options) => first((mapper) => mapper.map(request, options)),
    renew: (grant, options) => grantor(grant).renew(grant, options),
    release: (grant, options) => grantor(grant).release(grant, options),
    externalIp: (options) => first((mapper) => mapper.externalIp(options)),
    probe: async (options?: MapperCallOptions): Promise<ProbeResult> => {
      const result = await pcp.probe(options);
      const isNegative = result.kind === "refused"
        ? isDowngrade(result.error)
        : result.kind !== "supported";
      return isNegative ? await natPmp.probe(options) : result;
    },
  };
}

/** RFC 6887 appendix A. Some NAT-PMP gateways ignore other versions, which looks like silence. */
function isDowngrade(error: unknown): boolean {
  return error instanceof NoResponseError || error instanceof MalformedMessageError ||
    error instanceof MappingRefusedError && error.code === PCP_RESULT.UNSUPP_VERSION;
}
