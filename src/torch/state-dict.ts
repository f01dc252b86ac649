/**
 * The state dict in what a checkpoint holds: the object itself, or a dict in it (`state_dict`, `model`, …), with the prefixes that
 * wrappers put before every key (`module.` of DataParallel, `_orig_mod.` of torch.compile) taken away.
 */
import { ModelError } from '../core/errors.ts';
import type { Tensor } from '../core/tensor.ts';
import type { PickleValue } from './pickle.ts';
import { isTensorRef, type TensorMaker, type TensorRef } from './storages.ts';
import { carried } from './tensor-globals.ts';

export type StateDict = ReadonlyMap<string, Tensor>;

/** Keys under which trainers keep the weights, best first; others count where they hold most tensors. */
const USUAL_KEYS = [
  'state_dict',
  'model_state_dict',
  'model',
  'net',
  'network',
  'weights',
  'params',
  'model_ema',
  'ema',
];
/** Dicts that hold tensors but no weights. */
const NO_WEIGHTS = /optim|sched|scaler|rng|amp/i;
const DEEPEST = 4;
/** Dicts that are looked at: a checkpoint has a handful. */
const MOST_DICTS = 1000;
const WRAPPERS = ['module.', '_orig_mod.'];

type Dict = ReadonlyMap<PickleValue, PickleValue>;
interface Candidate {
  readonly tensors: ReadonlyMap<string, TensorRef>;
  readonly rank: number;
}

/** Throws ModelError `torch-parse` where there is no dict of tensors. */
export function stateDictOf(value: PickleValue, maker: TensorMaker): StateDict {
  if (value instanceof Map && value.size === 0) return new Map();
  const [best] = candidates(value).sort((a, b) => a.rank - b.rank || b.tensors.size - a.tensors.size);
  if (best === undefined) {
    throw new ModelError('torch-parse', 'the checkpoint holds no dict of tensors', {
      hint: "In PyTorch, save weights with torch.save(model.state_dict(), 'weights.pth').",
    });
  }
  return withoutWrappers([...best.tensors].map(([name, ref]) => [name, maker.make(ref, `weight "${name}"`)]));
}

function candidates(root: PickleValue): Candidate[] {
  const found: Candidate[] = [];
  const seen = new Set<PickleValue>();
  let level: (readonly [dict: PickleValue, rank: number])[] = [[root, 0]];
  for (let depth = 0; depth < DEEPEST && level.length > 0; depth++) {
    const next: (readonly [PickleValue, number])[] = [];
    for (const [value, rank] of level) {
      if (!(value instanceof Map) || seen.has(value) || seen.size >= MOST_DICTS) continue;
      seen.add(value);
      const tensors = tensorsOf(value);
      if (tensors.size > 0) found.push({ tensors, rank });
      for (const [key, inner] of value as Dict) {
        const at = USUAL_KEYS.indexOf(String(key));
        if (!NO_WEIGHTS.test(String(key))) next.push([inner, rank + 1 + (at < 0 ? USUAL_KEYS.length : at)]);
      }
    }
    level = next;
  }
  return found;
}

function tensorsOf(dict: Dict): Map<string, TensorRef> {
  const tensors = new Map<string, TensorRef>();
  for (const [key, value] of dict) {
    const ref = carried(value);
    if (typeof key === 'string' && isTensorRef(ref)) tensors.set(key, ref);
  }
  return tensors;
}

/** Without the prefixes that every key has because something was wrapped around the model. */
export function withoutWrappers(entries: readonly (readonly [string, Tensor])[]): StateDict {
  let named = entries;
  for (;;) {
    const wrapper = WRAPPERS.find((prefix) => named.every(([name]) => name.startsWith(prefix)));
    if (wrapper === undefined || named.length === 0) return new Map(named);
    named = named.map(([name, tensor]) => [name.slice(wrapper.length), tensor]);
  }
}
