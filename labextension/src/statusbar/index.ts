export * from './item';
export * from './model';
export * from './words';
