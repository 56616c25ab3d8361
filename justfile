# Short names for `cargo xtask`; nothing depends on just.

check:
    cargo xtask check

test *arguments:
    cargo xtask test {{arguments}}

demo *arguments:
    cargo xtask demo {{arguments}}
