//! Every bound of the product, once, tied to the others by assertions at compile time.

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
/// Bytes of the encoded approvals of a package.
pub const APPROVALS_BYTES_MAX: usize = 65_536;
/// Approvals of one cable.
pub const APPROVALS_MAX: usize = 16;
/// Bytes of one SSHSIG blob: an sk signature with a long application string takes about 300.
pub const SIGNATURE_BYTES_MAX: usize = 4_096;
/// Administrators' signatures beside a trust list or a statement; more are ignored.
pub const ADMINISTRATOR_SIGNATURES_MAX: usize = 16;
/// Bytes of a trust list.
pub const TRUST_LIST_BYTES_MAX: usize = 4 << 20;
/// Bytes of a configuration file.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;

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
/// The slowest serial line.
pub const BAUD_MIN: u32 = 300;
/// The fastest serial line.
pub const BAUD_MAX: u32 = 4_000_000;
/// Bits of a serial line that carry a byte: a start bit, eight of data, a stop bit.
pub const LINE_BITS_PER_BYTE: u32 = 10;
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

/// Seconds that a cable's `created` may lie in the future.
pub const CREATED_AHEAD_S_MAX: u64 = 300;
/// Seconds by which a trust list may be issued ahead of the clock of a host that imports it: clocks differ.
pub const ISSUED_AHEAD_S_MAX: u64 = 300;
/// Seconds that `receive` takes older link keys after it first verified a newer one.
pub const LINK_KEY_OVERLAP_S: u64 = 24 * 3_600;

/// Bytes of `request.toml`, of a signature's file and of an administrator's key.
pub const REQUEST_TEXT_BYTES_MAX: usize = 65_536;
/// Bytes of an answer with its LF, and of the reason of a refusal in a log. Whatever a reason quotes, the writer cuts it.
pub const ANSWER_BYTES_MAX: usize = 4_096;
/// Bytes of an alarm's text, which may quote an error of the system with the names in it.
pub const ALARM_BYTES_MAX: usize = 1_024;
/// Files of one request folder: the parts of a cable, `request.toml` and signatures.
pub const REQUEST_FILES_MAX: usize = PARTS_MAX + 18;

/// Lines of an audit log between two checkpoints.
pub const CHECKPOINT_LINES_MAX: u64 = 1_000;
/// Seconds between two checkpoints.
pub const CHECKPOINT_S_MAX: u64 = 3_600;
/// Bytes of one line of an audit log: the longest text of a request, every character escaped, has room.
pub const AUDIT_LINE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a file of checkpoints: one an hour for a century has room.
pub const CHECKPOINT_FILE_BYTES_MAX: usize = 256 << 20;

const _: () = {
    assert!(APPROVALS_MAX * (SIGNATURE_BYTES_MAX - 2) < APPROVALS_BYTES_MAX);
    assert!(PACKAGE_HEADER_BYTES < SEGMENT_BYTES);
    assert!((DATAGRAM_BYTES_MIN - DATAGRAM_OVERHEAD_BYTES).is_multiple_of(2));
    assert!((DATAGRAM_BYTES_UDP - DATAGRAM_OVERHEAD_BYTES).is_multiple_of(2));
    assert!((DATAGRAM_BYTES_SERIAL - DATAGRAM_OVERHEAD_BYTES).is_multiple_of(2));
    assert!(SLOT_PUBLIC_BYTES == 1_184 + 32);
    assert!(REQUEST_FILES_MAX > PARTS_MAX);
    assert!(ANSWER_BYTES_MAX <= REQUEST_TEXT_BYTES_MAX);
    assert!(AUDIT_LINE_BYTES_MAX > 8 * REQUEST_TEXT_BYTES_MAX);
};
