//! Every bound of the product, once, tied to the others by assertions at compile time.
//!
//! A number that only one algorithm knows (the size of a table, an interval of looks) is in the file of that algorithm.

// Cables and their manifests.

/// The largest serial: 2^63 − 1, so that it fits a signed 64-bit column.
pub const SERIAL_MAX: u64 = (1 << 63) - 1;

/// Bytes of a person or mailbox id.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a classification or category id.
pub const MARKING_BYTES_MAX: usize = 32;
/// Categories of one label.
pub const CATEGORIES_MAX: usize = 16;
/// Mailboxes of one cable.
pub const MAILBOXES_MAX: usize = 64;
/// Parts of one cable.
pub const PARTS_MAX: usize = 100;
/// Characters of a reference.
pub const REFERENCE_CHARS_MAX: usize = 64;
/// Characters of a subject.
pub const SUBJECT_CHARS_MAX: usize = 120;
/// Bytes of a part's file name.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Bytes of a media type.
pub const MEDIA_TYPE_BYTES_MAX: usize = 127;
/// Bytes of an encoded manifest.
pub const MANIFEST_BYTES_MAX: usize = 65_536;

// Signatures, trust lists, configuration.

/// Bytes of the encoded approvals of a package.
pub const APPROVALS_BYTES_MAX: usize = 65_536;
/// Approvals of one cable.
pub const APPROVALS_MAX: usize = 16;
/// Bytes of one SSHSIG blob: an sk signature with a long application string takes about 300.
pub const SIGNATURE_BYTES_MAX: usize = 4_096;
/// Bytes of an armoured signature.
pub const SIGNATURE_FILE_BYTES_MAX: usize = 2 * SIGNATURE_BYTES_MAX;
/// Officers that a classification must ask for: one person never suffices.
pub const OFFICERS_MIN: usize = 2;
/// Administrators that must have signed a list or a bundle: one stolen token must not change who is trusted.
pub const ADMINISTRATORS_MIN: usize = 2;
/// Days of the longest validity that a classification may grant: a century.
pub const VALIDITY_DAYS_MAX: u32 = 36_525;
/// Administrators' signatures beside a trust list or a statement; more are ignored.
pub const ADMINISTRATOR_SIGNATURES_MAX: usize = 16;
/// Bytes of a trust list.
pub const TRUST_LIST_BYTES_MAX: usize = 4 << 20;
/// Bytes of a configuration file.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;

// Containers, packages and slots.

/// Bytes of the clear header, encapsulation, sealed key and commitment of a container.
pub const CONTAINER_PREFIX_BYTES: usize = 1_264;
/// Bytes of package in a segment.
pub const SEGMENT_BYTES: usize = 65_536;
/// Bytes of an AEAD tag.
pub const TAG_BYTES: usize = 16;
/// Bytes of the largest padded package: 2^40.
pub const PACKAGE_BYTES_MAX: u64 = 1 << 40;
/// Bytes of the smallest padded package.
pub const PACKAGE_BYTES_MIN_PADDED: u64 = 1_024;
/// Bytes of the package header.
pub const PACKAGE_HEADER_BYTES: usize = 24;

/// Bytes of an X-Wing public key.
pub const SLOT_PUBLIC_BYTES: usize = 1_216;
/// Slots of one bundle.
pub const SLOTS_MAX: u32 = 1_000_000;

// Datagrams and the link.

/// Bytes of the header of a datagram that is in clear.
pub const CLEAR_BYTES: usize = 16;
/// Bytes of the header of a datagram that is sealed.
pub const INNER_BYTES: usize = 40;
/// Bytes of a datagram without its symbol: clear header 16, inner header 40, tag 16.
pub const DATAGRAM_OVERHEAD_BYTES: u16 = 72;
/// The smallest datagram: holds a beacon with one entry.
pub const DATAGRAM_BYTES_MIN: u16 = 136;
/// The largest datagram: fits an Ethernet jumbo frame with IPv6.
pub const DATAGRAM_BYTES_MAX: u16 = 9_152;
/// Datagram of a UDP link by default: 1,500 less the headers of IPv4 and UDP.
pub const DATAGRAM_BYTES_UDP: u16 = 1_472;
/// Datagram of a serial link by default.
pub const DATAGRAM_BYTES_SERIAL: u16 = 584;
/// Bytes of the socket buffer that may be asked for: the kernel's option is a signed 32-bit number, and the kernel doubles it.
pub const SOCKET_BUFFER_BYTES_MAX: u64 = (1 << 30) - 1;
/// The slowest serial line.
pub const BAUD_MIN: u32 = 300;
/// The fastest serial line.
pub const BAUD_MAX: u32 = 4_000_000;
/// Bits of a serial line that carry a byte: a start bit, eight of data, a stop bit.
pub const LINE_BITS_PER_BYTE: u32 = 10;
// Source blocks and passes.

/// Bytes of a source block with its repair symbols.
pub const BLOCK_BYTES_MAX: u64 = 16 << 20;
/// Source and repair symbols of a block of codec 1: the size of GF(2^8) less one.
pub const CODEC1_SYMBOLS_MAX: u32 = 255;
/// Source symbols, and repair symbols, of a block of codec 2.
pub const CODEC2_SYMBOLS_MAX: u32 = 32_768;
/// Repair symbols of a code of codec 2 for each source symbol of its container's smallest block.
pub const CODEC2_REPAIR_FACTOR_MAX: u32 = 8;
/// Sets of one serial that a receiver collects at a time.
pub const SETS_PER_SERIAL_MAX: usize = 4;
/// On slow links, a beacon is one datagram in so many.
pub const BEACON_INTERVAL_DATAGRAMS: u32 = 50;
/// Entries of a beacon.
pub const BEACON_ENTRIES_MAX: usize = 32;
/// Bytes of the blocks, with their repair symbols, that leave interleaved. A receiver collects as much at a time, so this
/// stays well below its memory for assembly.
pub const INTERLEAVE_BYTES_MAX: u64 = 16 << 20;
/// Blocks that leave interleaved: each of a container of its own when cables are small, with a file open.
pub const LANES_MAX: usize = 128;
/// Bytes of source blocks that a sender keeps until they leave.
pub const SOURCE_BYTES_MAX: usize = 18 << 20;
/// Bytes of repair symbols that a sender keeps until they leave.
pub const REPAIR_BYTES_MAX: usize = 12 << 20;
/// Counter of a session: 48 bits on the wire.
pub const COUNTER_MAX: u64 = (1 << 48) - 1;
/// Passes of a container: the pass number is one byte on the wire.
pub const PASSES_MAX: u8 = 250;

// What a sender holds at a time.

/// Containers that are open at a time.
pub const CONTAINERS_OPEN_MAX: usize = 512;
/// Bytes of a container that is compared with its hash where it is opened: that takes as long as a hundred datagrams.
pub const COMPARED_AT_ONCE_BYTES_MAX: u64 = 256 << 10;

// What a receiver holds at a time.

/// Link keys that are in force at a time; the newest ones count.
pub const LINK_KEYS_MAX: usize = 8;
/// Derived keys of one link key that are kept; the one that was quiet the longest yields. A true sender needs two at a time: of
/// the epoch, or session, that begins, and of the one before, of which datagrams may come late.
pub const EPOCH_KEYS_MAX: usize = 8;
/// Sets that are collected at a time.
pub const SETS_MAX: usize = 4_096;
/// Source blocks of one set: 5 TB in blocks of 1,024 symbols of 1,400 bytes. A set of more would only cost memory.
pub const SET_BLOCKS_MAX: u64 = 1 << 22;
/// Bytes that the sets' bitmaps may take together.
pub const BITMAP_BYTES_MAX: usize = 8 << 20;
/// Incomplete blocks that are kept on disk, for all sets together.
pub const SPILLED_BLOCKS_MAX: usize = 65_536;
/// Sets whose files are kept open.
pub const ASSEMBLIES_OPEN_MAX: usize = 16;
/// Slabs of datagrams, the one that the reader fills included. More would only move drops from the reader, which counts them,
/// to a later time.
pub const SLABS_MAX: usize = 32;
/// Blocks that are being hashed at a time. Interleaved blocks become whole nearly together, some dozen of them.
pub const BLOCKS_HASHING_MAX: usize = 64;
/// Containers that are being hashed at a time.
pub const CONTAINERS_HASHING_MAX: usize = 8;
/// Messages of the main thread, hints and beacons that wait in a queue of receive besides its other entries.
const QUEUE_SPARE: usize = 64;
/// Inputs that wait for the assembler: every slab, two answers for every set that is being finished, and the blocks that come
/// back from hashing. So no part that answers ever waits for the assembler, and no two threads wait for each other.
pub const ASSEMBLER_INPUTS_MAX: usize = SLABS_MAX + 2 * SETS_MAX + BLOCKS_HASHING_MAX + QUEUE_SPARE;
/// Messages that wait for the digest: an order for every set that is being finished, blocks, and hints.
pub const HASH_JOBS_MAX: usize = SETS_MAX + BLOCKS_HASHING_MAX + QUEUE_SPARE;
/// Deliveries that wait for the publisher: one for every set that is being finished, and beacons.
pub const DELIVERIES_MAX: usize = SETS_MAX + QUEUE_SPARE;
/// Events that wait for the main thread of receive. More are only counted.
pub const RECEIVE_EVENTS_MAX: usize = 256;
/// Containers that release hands back and that are taken back at a time; the next look finds the others.
pub const HANDED_BACK_MAX: usize = 1_024;
/// Sets that `status` lists one by one.
pub const SETS_SHOWN_MAX: usize = 1_000;
/// Serials with forged symbols that one line of a log lists.
pub const FORGED_SERIALS_LOGGED_MAX: usize = 32;
/// Bytes of the disk that receive leaves free, so that the audit logs and release can go on.
pub const DISK_FREE_BYTES_MIN: u64 = 64 << 20;

// Times.

/// Seconds that a cable's `created` may lie in the future.
pub const CREATED_AHEAD_S_MAX: u64 = 300;
/// Seconds by which a trust list may be issued ahead of the clock of a host that imports it: clocks differ.
pub const ISSUED_AHEAD_S_MAX: u64 = 300;
/// Seconds that `receive` takes older link keys after it first verified a newer one.
pub const LINK_KEY_OVERLAP_S: u64 = 24 * 3_600;

// Requests, answers and alarms.

/// Bytes of `request.toml`, of a signature's file and of an administrator's key.
pub const REQUEST_TEXT_BYTES_MAX: usize = 65_536;
/// Bytes of an answer with its LF, and of the reason of a refusal in a log. Whatever a reason quotes, the writer cuts it.
pub const ANSWER_BYTES_MAX: usize = 4_096;
/// Bytes of an alarm's text, which may quote an error of the system with the names in it.
pub const ALARM_BYTES_MAX: usize = 1_024;
/// Characters of a part of a repair command that a role may choose.
pub const ALARM_ARGUMENT_CHARS_MAX: usize = 200;
/// Bytes of a line for the alarm command: a pipe takes so much whole or not at all (PIPE_BUF, `pipe(7)`).
pub const ALARM_LINE_BYTES_MAX: usize = 4_096;
/// Alarms that wait for their command. The log and `status` have all of them.
pub const ALARM_COMMANDS_WAITING_MAX: usize = 64;
/// Alarm commands that run at a time.
pub const ALARM_COMMANDS_RUNNING_MAX: usize = 4;
/// Files of one request folder: the parts of a cable, `request.toml` and signatures.
pub const REQUEST_FILES_MAX: usize = PARTS_MAX + 18;

// Audit logs.

/// Lines of an audit log between two checkpoints.
pub const CHECKPOINT_LINES_MAX: u64 = 1_000;
/// Seconds between two checkpoints.
pub const CHECKPOINT_S_MAX: u64 = 3_600;
/// Bytes of one line of an audit log: the longest text of a request, every character escaped, has room.
pub const AUDIT_LINE_BYTES_MAX: usize = 1 << 20;
/// Fields of one line of an audit log; more would only make their comparison slow.
pub const AUDIT_LINE_FIELDS_MAX: usize = 64;
/// Bytes of the first line of an audit log, which `init` writes.
pub const AUDIT_INIT_LINE_BYTES_MAX: usize = 4_096;
/// Bytes of the file of a log's signer.
pub const AUDIT_SIGNER_BYTES_MAX: usize = 1_024;
/// Bytes of the file of a log's verifier.
pub const AUDIT_VERIFIER_BYTES_MAX: usize = 4_096;
/// Bytes of a file of checkpoints: one an hour for a century has room.
pub const CHECKPOINT_FILE_BYTES_MAX: usize = 256 << 20;

// Files of the state folder that are read whole.

/// Bytes of a view of transmit, receive or release.
pub const VIEW_BYTES_MAX: usize = 16 << 20;
/// Bytes of a view of gate, which lists every cable: far above what its bounds allow.
pub const GATE_VIEW_BYTES_MAX: usize = 1 << 30;
/// Bytes of the file of a link key: a few names and numbers.
pub const LINK_KEY_FILE_BYTES_MAX: usize = 4_096;
/// Bytes of a file that has one line for each link key: of those that ended, of the times when each first verified.
pub const LINK_KEY_TIMES_BYTES_MAX: usize = 1 << 20;
/// Bytes of the progress of a container; transmit writes some hundred.
pub const PROGRESS_BYTES_MAX: usize = 1 << 20;
/// Bytes of a `.fec` file, and of `outbox/beacon`.
pub const OUTBOX_TEXT_BYTES_MAX: u64 = 4 << 20;
/// Bytes of a `release.json`, and of the `SHA256SUMS` of a released cable.
pub const RELEASED_TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes of a lock file: one stamp.
pub const LOCK_FILE_BYTES_MAX: usize = 256;
/// Bytes of the notes of ends by forbidden calls. Later ones are not counted: a role that is broken into again and again fills
/// no disk.
pub const BREACH_NOTES_BYTES_MAX: usize = 4_096;

// The system around a role.

/// Open files that a role needs: a cable of a hundred parts, and what it holds besides.
pub const OPEN_FILES_MIN: u64 = 256;
/// Open files that a role asks for.
pub const OPEN_FILES_WANTED: u64 = 65_536;
/// Names that one look at watched folders returns; beyond it everything is read again.
pub const WATCH_NAMES_MAX: usize = 4_096;
/// Bytes of a message to the journal: with its other fields it fits a datagram, under every default of the kernel.
pub const JOURNAL_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Bytes of the value of another field for the journal.
pub const JOURNAL_VALUE_BYTES_MAX: usize = 1 << 10;
/// Bytes of a table of the kernel's network.
pub const NET_TABLE_BYTES_MAX: u64 = 1 << 20;

const _: () = {
    assert!(APPROVALS_MAX * (SIGNATURE_BYTES_MAX - 2) < APPROVALS_BYTES_MAX);
    assert!(OFFICERS_MIN <= APPROVALS_MAX && ADMINISTRATORS_MIN <= ADMINISTRATOR_SIGNATURES_MAX);
    assert!(CLEAR_BYTES + INNER_BYTES + TAG_BYTES == 72 && DATAGRAM_OVERHEAD_BYTES == 72);
    assert!(PACKAGE_HEADER_BYTES < SEGMENT_BYTES);
    assert!((DATAGRAM_BYTES_MIN - DATAGRAM_OVERHEAD_BYTES).is_multiple_of(2));
    assert!((DATAGRAM_BYTES_UDP - DATAGRAM_OVERHEAD_BYTES).is_multiple_of(2));
    assert!((DATAGRAM_BYTES_SERIAL - DATAGRAM_OVERHEAD_BYTES).is_multiple_of(2));
    assert!(SLOT_PUBLIC_BYTES == 1_184 + 32);
    assert!(REQUEST_FILES_MAX > PARTS_MAX);
    assert!(ANSWER_BYTES_MAX <= REQUEST_TEXT_BYTES_MAX);
    assert!(ALARM_BYTES_MAX < ALARM_LINE_BYTES_MAX);
    assert!(LANES_MAX <= CONTAINERS_OPEN_MAX);
    assert!(SETS_PER_SERIAL_MAX <= SETS_MAX && ASSEMBLIES_OPEN_MAX <= SETS_MAX);
    assert!(SETS_SHOWN_MAX <= SETS_MAX);
    // The bitmap of one set of the most blocks, a bit for each.
    assert!(SET_BLOCKS_MAX / 8 <= 8 << 20 && BITMAP_BYTES_MAX == 8 << 20);
    assert!(INTERLEAVE_BYTES_MAX >= BLOCK_BYTES_MAX);
    assert!(AUDIT_INIT_LINE_BYTES_MAX <= AUDIT_LINE_BYTES_MAX);
    assert!(AUDIT_LINE_BYTES_MAX > 8 * REQUEST_TEXT_BYTES_MAX);
};
