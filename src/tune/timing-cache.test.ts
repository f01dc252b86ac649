import { describe, expect, it } from 'vitest';
import { ModelError } from '../core/errors.ts';
import { TimingCache } from './timing-cache.ts';

describe('the timing cache', () => {
  it('reads what it wrote, in one order whatever the order of measuring', () => {
    const cache = new TimingCache([
      ['b', 2],
      ['a', 1.5],
    ]);
    const read = TimingCache.parse(cache.print());
    expect(read.get('a')).toBe(1.5);
    expect(read.print()).toBe(
      new TimingCache([
        ['a', 1.5],
        ['b', 2],
      ]).print(),
    );
  });

  it('merges what it lacks and keeps what it has', () => {
    const cache = new TimingCache([['a', 1]]);
    cache.merge(
      new TimingCache([
        ['a', 9],
        ['b', 2],
      ]),
    );
    expect([cache.get('a'), cache.get('b'), cache.size]).toEqual([1, 2, 2]);
  });

  it.each([
    '',
    'null',
    '[]',
    '{"format":"other"}',
    '{"format":"hotrod timing cache 1"}',
    '{"format":"hotrod timing cache 1","times":{"a":-1}}',
  ])('refuses %s', (text) => {
    expect(() => TimingCache.parse(text)).toThrow(ModelError);
  });
});
