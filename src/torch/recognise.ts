/**
 * Which architecture a state dict belongs to, told from its keys and shapes; and all that does not fit, at once.
 *
 * A family is recognised by a few keys that only it has; within it the member whose every weight has the right name and shape. The last
 * layer's classes are whatever the weights say. Where nothing fits, the error compares with the member that comes nearest.
 */
import { ModelError } from '../core/errors.ts';
import { ARCHITECTURES, FAMILIES, type Known } from './architectures/all.ts';
import type { Family } from './architectures/architecture.ts';
import { type Misfits, Network } from './architectures/network.ts';
import type { StateDict } from './state-dict.ts';

export interface Recognised extends Known {
  /** The weights by the architecture's own names. */
  readonly weights: StateDict;
}

/** Keys of one kind that a message shows; the error's details have all. */
const SHOWN = 5;

/** Throws ModelError: `option-invalid` for a name that is none, `architecture-unknown`, `weights-mismatch`. */
export function recognise(weights: StateDict, name?: string): Recognised {
  const known = name === undefined ? nearest(weights) : named(name);
  const renamed = withCurrentKeys(weights, known.family);
  const misfits = compare(renamed, known);
  if (misfitCount(misfits) > 0) throw mismatch(known.architecture.name, misfits, name === undefined);
  return { ...known, weights: renamed };
}

function named(name: string): Known {
  const known = ARCHITECTURES.get(name);
  if (known) return known;
  throw new ModelError('option-invalid', `there is no architecture "${name}"`, {
    hint: `Known: ${[...ARCHITECTURES.keys()].join(', ')}.`,
  });
}

function nearest(weights: StateDict): Known {
  let best: { readonly known: Known; readonly misfits: number } | undefined;
  for (const family of FAMILIES) {
    const renamed = withCurrentKeys(weights, family);
    if (!family.marks.every((key) => renamed.has(key))) continue;
    for (const architecture of family.members) {
      const known = { architecture, family };
      const misfits = misfitCount(compare(renamed, known));
      if (best === undefined || misfits < best.misfits) best = { known, misfits };
      if (misfits === 0) return known;
    }
  }
  if (best) return best.known;
  const keys = [...weights.keys()];
  throw new ModelError(
    'architecture-unknown',
    `the weights are of no architecture known here: their ${keys.length} keys begin with ${keys.slice(0, SHOWN).join(', ')}`,
    {
      hint: 'Say which one it is with --arch, or export the model in PyTorch with torch.export.save (.pt2) or torch.onnx.export.',
    },
  );
}

function withCurrentKeys(weights: StateDict, { currentKey }: Family): StateDict {
  return currentKey ? new Map([...weights].map(([key, tensor]) => [currentKey(key), tensor])) : weights;
}

/** Runs the definition on names and shapes alone. */
function compare(weights: StateDict, { architecture }: Known): Misfits {
  const net = new Network(weights);
  architecture.define(net, '');
  return net.misfits();
}

const misfitCount = ({ missing, wrong, extra }: Misfits): number => missing.length + wrong.length + extra.length;

function mismatch(name: string, { missing, wrong, extra }: Misfits, guessed: boolean): ModelError {
  const kinds = [
    { what: 'missing', keys: missing },
    { what: 'of the wrong shape', keys: wrong },
    { what: 'too many', keys: extra },
  ].filter(({ keys }) => keys.length > 0);
  const text = kinds.map(({ what, keys }) => {
    const more = keys.length > SHOWN ? ` and ${keys.length - SHOWN} more` : '';
    return `${keys.length} ${what}: ${keys.slice(0, SHOWN).join('; ')}${more}`;
  });
  const subject = guessed ? `the weights come nearest to ${name}, but do not fit it` : `the weights do not fit ${name}`;
  return new ModelError('weights-mismatch', `${subject}. ${text.join('. ')}`, {
    details: kinds.flatMap(({ what, keys }) => keys.map((key) => `${what}: ${key}`)),
    hint: guessed
      ? 'A model of your own comes in with torch.export.save (.pt2) or torch.onnx.export.'
      : 'Without --arch the architecture is recognised from the keys.',
  });
}
