/** From the wire to types: checks JSON against the schemas of the Python messages. */
import { IMessages, SCHEMAS } from '../messages';

interface ISchema {
  $ref?: string;
  anyOf?: ISchema[];
  enum?: string[];
  type?: string;
  items?: ISchema;
  properties?: Record<string, ISchema>;
  required?: string[];
}

/** What was received is not the message that was expected. */
export class ValidationError extends Error {
  constructor(path: string, expected: string) {
    super(`${path} should be ${expected}`);
    this.name = 'ValidationError';
  }
}

/**
 * Return `value` as the message `name`.
 *
 * #### Notes
 * Throws a ValidationError that names the first field that is wrong. Fields that are not known
 * here pass: a newer server may send more.
 */
export function validate<K extends keyof IMessages>(name: K, value: unknown): IMessages[K] {
  Private.check(SCHEMAS[name], value, name);
  return value as IMessages[K];
}

namespace Private {
  const PREFIX = '#/$defs/';

  const IS: Record<string, (value: unknown) => boolean> = {
    array: Array.isArray,
    boolean: value => typeof value === 'boolean',
    integer: Number.isInteger,
    null: value => value === null,
    number: value => typeof value === 'number',
    object: isObject,
    string: value => typeof value === 'string'
  };

  function isObject(value: unknown): value is Record<string, unknown> {
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  }

  function isMessage(name: string): name is keyof IMessages {
    return name in SCHEMAS;
  }

  function passes(schema: ISchema, value: unknown): boolean {
    try {
      check(schema, value, '');
      return true;
    } catch {
      return false;
    }
  }

  /** Say what is wrong in the one choice that is not null, where there is only one. */
  function checkChoices(choices: ISchema[], value: unknown, path: string): void {
    if (choices.some(choice => passes(choice, value))) {
      return;
    }
    for (const choice of choices.filter(choice => choice.type !== 'null')) {
      check(choice, value, path);
    }
  }

  export function check(schema: ISchema, value: unknown, path: string): void {
    const { $ref, anyOf, enum: values, type, items, properties, required } = schema;
    if ($ref !== undefined) {
      const name = $ref.slice(PREFIX.length);
      if (!isMessage(name)) {
        throw new ValidationError(path, `a ${name}, which is not known`);
      }
      check(SCHEMAS[name], value, path);
    }
    if (anyOf) {
      checkChoices(anyOf, value, path);
    }
    if (values && !values.includes(value as string)) {
      throw new ValidationError(path, `one of ${values.join(', ')}`);
    }
    if (type && !IS[type]?.(value)) {
      throw new ValidationError(path, `of type ${type}`);
    }
    if (items && Array.isArray(value)) {
      value.forEach((item, index) => {
        check(items, item, `${path}[${index.toString()}]`);
      });
    }
    if (properties && isObject(value)) {
      for (const key of required ?? []) {
        if (!(key in value)) {
          throw new ValidationError(`${path}.${key}`, 'there');
        }
      }
      for (const [key, part] of Object.entries(properties)) {
        if (key in value) {
          check(part, value[key], `${path}.${key}`);
        }
      }
    }
  }
}
