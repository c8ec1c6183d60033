'use strict';
// Haraka plugin: the message goes into the Maildir, synced, before it is answered.
const fs = require('node:fs');
const box = process.env.BENCH_DIR + '/Maildir';

exports.hook_queue = function (next, connection) {
  const txn = connection && connection.transaction;
  if (!txn) return next();
  const file = fs.createWriteStream(`${box}/tmp/${txn.uuid}`, { flags: 'wx', mode: 0o600, flush: true });
  file.once('error', () => next(DENYSOFT));
  file.once('close', () =>
    fs.rename(`${box}/tmp/${txn.uuid}`, `${box}/new/${txn.uuid}`, (e) => (e ? next(DENYSOFT) : next(OK))));
  txn.message_stream.pipe(file);
};
