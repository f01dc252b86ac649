/**
 * The operators that exported programs may use, by their name without overload: a row each, from the tables by subject.
 */
import { ARITHMETIC } from './aten-arithmetic.ts';
import { INDEXING } from './aten-indexing.ts';
import { LAYERS } from './aten-layers.ts';
import { RECURRENT } from './aten-recurrent.ts';
import { REDUCTIONS } from './aten-reductions.ts';
import { RESAMPLING } from './aten-resampling.ts';
import { SHAPES } from './aten-shapes.ts';
import type { Call, Result } from './call.ts';

export type Translation = (c: Call) => Result;
export type TranslationTable = Readonly<Record<string, Translation>>;

export const ATEN: TranslationTable = {
  ...ARITHMETIC,
  ...INDEXING,
  ...LAYERS,
  ...RECURRENT,
  ...REDUCTIONS,
  ...RESAMPLING,
  ...SHAPES,
};
