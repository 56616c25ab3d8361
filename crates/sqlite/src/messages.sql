CREATE TABLE IF NOT EXISTS outbound_messages(
  id INTEGER PRIMARY KEY                        -- the nonce; leave it out, and SQLite counts
    CONSTRAINT "id is 1 or more" CHECK (id > 0),
  target TEXT NOT NULL                          -- the contract or account that is called, as 0x and 40 hex digits in lower case
    CONSTRAINT "target is 0x and 40 hex digits in lower case" CHECK (typeof(target) = 'text' AND length(target) = 42 AND substr(target, 1, 2) = '0x' AND substr(target, 3) NOT GLOB '*[^0-9a-f]*' AND instr(target, char(0)) = 0),
  value TEXT NOT NULL DEFAULT '0'               -- native money to send, in wei, as a decimal number
    CONSTRAINT "value is a decimal number below 2^256, as text" CHECK (typeof(value) = 'text' AND length(value) BETWEEN 1 AND 78 AND value NOT GLOB '*[^0-9]*' AND instr(value, char(0)) = 0 AND (value = '0' OR substr(value, 1, 1) <> '0')
      AND (length(value) < 78 OR value <= '115792089237316195423570985008687907853269984665640564039457584007913129639935')),
  token TEXT                                    -- the token to send, as `target` is written; NULL for none
    CONSTRAINT "token is 0x and 40 hex digits in lower case, or NULL" CHECK (token IS NULL OR (typeof(token) = 'text' AND length(token) = 42 AND substr(token, 1, 2) = '0x' AND substr(token, 3) NOT GLOB '*[^0-9a-f]*' AND instr(token, char(0)) = 0)),
  amount TEXT NOT NULL DEFAULT '0'              -- how much of it, in its smallest unit, as `value` is written
    CONSTRAINT "amount is a decimal number below 2^256, as text" CHECK (typeof(amount) = 'text' AND length(amount) BETWEEN 1 AND 78 AND amount NOT GLOB '*[^0-9]*' AND instr(amount, char(0)) = 0 AND (amount = '0' OR substr(amount, 1, 1) <> '0')
      AND (length(amount) < 78 OR amount <= '115792089237316195423570985008687907853269984665640564039457584007913129639935')),
  payload BLOB NOT NULL DEFAULT x''             -- what the target is called with
    CONSTRAINT "payload is a blob of 65536 bytes at most" CHECK (typeof(payload) = 'blob' AND length(payload) <= 65536),
  gas_limit INTEGER NOT NULL DEFAULT 200000     -- the gas that the call may use; no bridge takes more
    CONSTRAINT "gas_limit is an integer from 0 to 10000000" CHECK (typeof(gas_limit) = 'integer' AND gas_limit BETWEEN 0 AND 10000000),
  deadline INTEGER                              -- when it expires, in seconds since 1970; NULL for never
    CONSTRAINT "deadline is an integer of seconds, or NULL" CHECK (deadline IS NULL OR (typeof(deadline) = 'integer' AND deadline > 0)),
  idempotency_key TEXT UNIQUE                   -- the application's own name for it, against sending twice; NULL for none. Insert ON CONFLICT DO NOTHING
    CONSTRAINT "idempotency_key is text, or NULL" CHECK (idempotency_key IS NULL OR typeof(idempotency_key) = 'text'),
  created_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
    CONSTRAINT "created_at is an integer of seconds" CHECK (typeof(created_at) = 'integer'),
  CONSTRAINT "an amount names its token" CHECK (amount = '0' OR token IS NOT NULL)
);
CREATE TRIGGER IF NOT EXISTS outbound_messages_in_order BEFORE INSERT ON outbound_messages
  WHEN NEW.id <> -1 AND NEW.id IS NOT (SELECT coalesce(max(id), 0) + 1 FROM outbound_messages)
  BEGIN SELECT RAISE(ABORT, 'outbound messages come without a gap: leave the id out'); END;
CREATE TRIGGER IF NOT EXISTS outbound_messages_kept BEFORE UPDATE ON outbound_messages
  BEGIN SELECT RAISE(ABORT, 'outbound messages never change'); END;
CREATE TRIGGER IF NOT EXISTS outbound_messages_not_deleted BEFORE DELETE ON outbound_messages
  BEGIN SELECT RAISE(ABORT, 'outbound messages never change'); END;
CREATE TABLE IF NOT EXISTS inbound_messages(
  message_id INTEGER PRIMARY KEY                -- the nonce of the message that is done with
    CONSTRAINT "message_id is 1 or more" CHECK (message_id > 0),
  outcome TEXT NOT NULL CONSTRAINT "outcome is done or rejected" CHECK (outcome IN ('done', 'rejected')),
  reason TEXT                                   -- why it was rejected
    CONSTRAINT "reason is text, or NULL" CHECK (reason IS NULL OR typeof(reason) = 'text'),
  processed_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
    CONSTRAINT "processed_at is an integer of seconds" CHECK (typeof(processed_at) = 'integer')
);
CREATE TRIGGER IF NOT EXISTS inbound_messages_in_order BEFORE INSERT ON inbound_messages
  WHEN NEW.message_id IS NOT (SELECT coalesce(max(message_id), 0) + 1 FROM inbound_messages)
  BEGIN SELECT RAISE(ABORT, 'inbound messages are acknowledged in their order, each once'); END;
CREATE TRIGGER IF NOT EXISTS inbound_messages_kept BEFORE UPDATE ON inbound_messages
  BEGIN SELECT RAISE(ABORT, 'inbound messages never change'); END;
CREATE TRIGGER IF NOT EXISTS inbound_messages_not_deleted BEFORE DELETE ON inbound_messages
  BEGIN SELECT RAISE(ABORT, 'inbound messages never change'); END;
