/** The address of a selection: `#node=/layer1/conv1`, `#step=3`, `#block=layer1/layer1.0`. Names are readable and outlive a rebuild. */
import type { Network } from './network.ts';
import type { Selection } from './state.ts';

export function hashOfSelection(network: Network, { side, id }: Selection): string {
  if (id < 0) return `#block=${encodeURIComponent(blockPath(network, -1 - id))}`;
  const name = network.side(side).items[id].name;
  const key = side === 'graph' ? 'node' : 'step';
  return `#${key}=${encodeURIComponent(name === '' ? String(id) : name)}`;
}

/** Undefined where the address names nothing that the page has. */
export function selectionOfHash(network: Network, hash: string): Selection | undefined {
  const [, key, text] = /^#(node|step|block)=(.*)$/.exec(hash) ?? [];
  if (key === undefined || text === undefined) return undefined;
  const name = decode(text);
  if (key === 'block') {
    const group = network.model.groups.findIndex((_, g) => blockPath(network, g) === name);
    const side = network.sides.find((each) => group >= 0 && network.itemsIn(each, -1 - group).length > 0);
    return side && { side, id: -1 - group };
  }
  const side = key === 'node' ? 'graph' : 'engine';
  const items = network.model[side]?.items ?? [];
  const named = items.findIndex((item) => item.name === name);
  const id = named >= 0 || !/^\d+$/.test(name) ? named : Number(name);
  return items[id] && { side, id };
}

function blockPath({ model }: Network, group: number): string {
  const { label, parent } = model.groups[group];
  return parent < 0 ? label : `${blockPath({ model } as Network, parent)}/${label}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
