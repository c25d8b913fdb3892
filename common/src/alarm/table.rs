//! The table of alarms: a word, a meaning and repairs for each.

use std::fmt;

use crate::role::Role;

/// Declares the alarms: a name, and for each its word, its meaning, and its repair.
macro_rules! alarms {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $means:literal, [$($repair:literal),+];)*) => {
        /// What needs a person, by its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Alarm {
            $(#[doc = $means] $name,)*
        }

        impl Alarm {
            /// Every alarm, by its word.
            pub const ALL: &'static [Alarm] = &[$(Alarm::$name,)*];

            /// Returns the word, as in `status` and in the audit log.
            pub const fn as_str(self) -> &'static str {
                match self { $(Alarm::$name => $word,)* }
            }

            /// Returns the meaning: what follows from it.
            pub const fn means(self) -> &'static str {
                match self { $(Alarm::$name => $means,)* }
            }

            /// Returns the commands that repair it, the general one first. `{start}` and `{restart}` depend on how the role runs,
            /// a word in upper case in braces is what the alarm is about.
            pub(super) const fn templates(self) -> &'static [&'static str] {
                match self { $(Alarm::$name => &[$($repair,)+],)* }
            }
        }
    };
}

alarms! {
    AnswersOpen = "answers-open",
        "every user who may place requests can read the answers to all others",
        ["findmnt -T {STATE}, then move the state folder to ext4 or xfs and {restart}"];
    Aside = "aside",
        "gate found something that it did not make, and put it into aside/",
        ["sudo ls -l {STATE}/aside, then take away what is there"];
    AuditLog = "audit-log",
        "the audit log ended in an incomplete line, which was moved aside",
        ["valise-{host} audit verify"];
    Beacon = "beacon",
        "the newest beacon is ignored, and the one before it stays in force",
        ["{restart receive}"];
    Blocked = "blocked",
        "somebody keeps taking the name of a released cable in its mailbox; the cable is not visible there",
        ["sudo ls -l {STATE}/released/{MAILBOX}, then stop the reader who does it"];
    Clock = "clock",
        "the clock is behind the audit log: nothing expires, and the sender takes no submission",
        ["timedatectl set-time TIME, or valise-{host} clock accept if the clock is right"];
    ClockAhead = "clock-ahead",
        "the clock leapt ahead: no submission is taken, and nothing expires",
        ["timedatectl set-time TIME, or valise-{host} clock accept if the clock is right"];
    Container = "container",
        "a sealed container cannot be sent, and the receiver will report its serial as missing",
        ["{restart gate}"];
    CopiesOnWrite = "copies-on-write",
        "what is overwritten stays on the disk, because the file system copies on write",
        ["findmnt -T {STATE}, then move the state folder to ext4 or xfs, on an encrypted disk"];
    Damaged = "damaged",
        "the disk changed a container after it arrived; nothing of it was released",
        ["valise-sender resend {SERIALS}"];
    Disk = "disk",
        "the disk of the state folder is nearly full, full, or read-only; nothing that was accepted is lost",
        [
            "df -h {STATE}, then make room outside of the state folder",
            "findmnt -T {STATE}, then look at the disk and mount it for writing"
        ];
    Egress = "egress",
        "frames leave the isolated host by the interface of the link",
        ["sudo systemctl enable --now valise-receiver-silence@{INTERFACE}"];
    Fence = "fence",
        "a role works, or may start, without one of its fences; an attacker inside it could do more",
        ["{restart}, when what refuses the fence is changed and required = false is removed"];
    ForbiddenCall = "forbidden-call",
        "somebody may have broken into a role; it was ended, and works again",
        ["look at this host before you trust it, then sudo mv {PATH} /root and {restart}"];
    ForeignFile = "foreign-file",
        "something that Valise did not make is in the place of a file of its own",
        ["sudo ls -l {PATH}, then move it out of the state folder"];
    Forged = "forged",
        "somebody else may have the link key; nothing forged gets through",
        ["valise-receiver bundle create --slots N --out DIR, then link-key retire when the sender has imported it"];
    GateHung = "gate-hung",
        "gate takes no request and seals nothing",
        ["{restart gate}"];
    GateNotRunning = "gate-not-running",
        "gate takes no request and seals nothing",
        ["{start gate}"];
    GateView = "gate-view",
        "what gate shows is damaged; no decision depends on it",
        ["{restart gate}"];
    LinkAddress = "link-address",
        "receive cannot hear the link, because this host does not have the address of link.listen",
        ["ip address add {ADDRESS}/PREFIX dev INTERFACE"];
    LinkDown = "link-down",
        "nothing passes: a sender's cables wait until its link is up; what a receiver cannot hear, it reports as missing",
        [
            "ip address; ip route; ip neigh",
            "sudo valise-{host} ports",
            "ls -lL {DEVICE}, then put the user of the role into the device's group",
            "ip link set dev {INTERFACE} up",
            "ip link show dev {INTERFACE}",
            "ip neigh replace {ADDRESS} lladdr MAC dev {INTERFACE} nud permanent",
            "ip link set dev INTERFACE up, or ip route add {ADDRESS} dev INTERFACE",
            "ip address add {ADDRESS}/PREFIX dev INTERFACE"
        ];
    LinkKey = "link-key",
        "the newest link key of this host is damaged; nothing is sent or taken under it",
        ["valise-receiver bundle create --slots N --out DIR, then valise-sender bundle import DIR"];
    LinkPort = "link-port",
        "receive cannot hear the link: another program has its UDP port, or systemd has bound no socket",
        ["ss -ulpn, then end the program that has port {PORT}"];
    LinkUnwatched = "link-unwatched",
        "a cable may count as transmitted although the link is down",
        ["{restart transmit}, when its unit allows AF_NETLINK"];
    Missing = "missing",
        "serials that the sender has sent did not arrive",
        ["valise-sender resend {SERIALS}"];
    NotErased = "not-erased",
        "the content of deleted requests may still be on the disk",
        ["have the program that places requests make its files writable for the group (chmod 0660)"];
    NotFetched = "not-fetched",
        "released cables wait in their mailboxes for longer than release.pickup_alarm",
        ["valise-receiver list --state released"];
    NotSealed = "not-sealed",
        "a cable that had its serial could not be sealed, and is not sent",
        ["valise-sender submit, for the cable again"];
    PendingClosed = "pending-closed",
        "officers cannot read waiting cables: the file system cannot limit them to those who need to know",
        ["findmnt -T {STATE}, then move the state folder to ext4 or xfs and {restart}"];
    PendingDamaged = "pending-damaged",
        "the disk changed a waiting cable; it is neither approved nor sealed",
        ["valise-sender withdraw {ID}, then submit the cable again"];
    PendingMissing = "pending-missing",
        "the folder of a waiting cable is gone",
        ["valise-sender withdraw {ID}, then submit the cable again"];
    Quarantine = "quarantine",
        "cables are held back, because a check of the receiver refused them",
        ["valise-receiver quarantine list"];
    ReceiveHung = "receive-hung",
        "nothing of the link is taken",
        ["{restart receive}"];
    ReceiveNotRunning = "receive-not-running",
        "nothing of the link is taken",
        ["{start receive}"];
    ReceiveView = "receive-view",
        "what receive shows is damaged; no decision depends on it",
        ["{restart receive}"];
    RegisterRebuilt = "register-rebuilt",
        "the register was damaged, missing or of another version, and was built again from the audit log; nothing is lost",
        ["sudo smartctl -a DEVICE"];
    ReleaseHung = "release-hung",
        "nothing is opened and released; what arrives waits",
        ["{restart release}"];
    ReleaseNotRunning = "release-not-running",
        "nothing is opened and released; what arrives waits",
        ["{start release}"];
    ReleaseView = "release-view",
        "what release shows is damaged; no decision depends on it",
        ["{restart release}"];
    RequestLeft = "request-left",
        "a request that its writer did not finish may hold content, and cannot be taken away",
        ["sudo rm -r {STATE}/requests/{NAME}"];
    RequestsHeld = "requests-held",
        "the requests of a user wait, because too many of them were refused",
        ["sudo ls -l {STATE}/requests"];
    SealingWaits = "sealing-waits",
        "a cable that has its serial cannot be sealed yet",
        ["valise-sender show {ID}"];
    SecondContainer = "second-container",
        "a serial came with a second cable, which is lost: the sender was restored from a backup, or somebody else has the link key",
        ["valise-receiver bundle create --slots N --out DIR --replaces {BUNDLE}, then valise-sender bundle import DIR"];
    Silence = "silence",
        "nothing arrives: the line, the diode or the sender is down",
        ["valise-sender status"];
    SlotsDamaged = "slots-damaged",
        "the slots of a bundle are damaged, and its cables cannot be sealed or opened",
        ["valise-receiver bundle create --slots N --out DIR --replaces {BUNDLE}, then valise-sender bundle import DIR"];
    SlotsLow = "slots-low",
        "soon no cable can be sealed any more",
        ["valise-receiver bundle create --slots N --out DIR, then valise-sender bundle import DIR"];
    SlotsNone = "slots-none",
        "approved cables wait, because no slot is left",
        ["valise-sender bundle import DIR"];
    TransmitHung = "transmit-hung",
        "nothing is sent; sealed cables wait",
        ["{restart transmit}"];
    TransmitNotRunning = "transmit-not-running",
        "nothing is sent; sealed cables wait",
        ["{start transmit}"];
    TransmitView = "transmit-view",
        "what transmit shows is damaged; no decision depends on it",
        ["{restart transmit}"];
    TrustDamaged = "trust-damaged",
        "nothing is accepted, sealed or released until the trust list is imported again",
        ["valise-{host} trust import FILE"];
    TrustMissing = "trust-missing",
        "nothing is accepted, sealed or released without a trust list",
        ["valise-{host} trust import FILE"];
    Unopened = "unopened",
        "a container did not open, and was discarded; its serial can be sent again",
        ["valise-sender resend {SERIALS}"];
    Unreadable = "unreadable",
        "a cable arrived that release has no right to read; it is not missing",
        ["sudo chmod 0640 {PATH}"];
}

impl Alarm {
    /// Finds an alarm by its word.
    pub fn find(word: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|alarm| alarm.as_str() == word)
    }

    /// Creates the alarm of a role that does not run.
    pub(crate) const fn not_running(role: Role) -> Self {
        match role {
            Role::Gate => Self::GateNotRunning,
            Role::Transmit => Self::TransmitNotRunning,
            Role::Receive => Self::ReceiveNotRunning,
            Role::Release => Self::ReleaseNotRunning,
        }
    }

    /// Creates the alarm of a role that lives and does not work.
    pub const fn hung(role: Role) -> Self {
        match role {
            Role::Gate => Self::GateHung,
            Role::Transmit => Self::TransmitHung,
            Role::Receive => Self::ReceiveHung,
            Role::Release => Self::ReleaseHung,
        }
    }

    /// The alarm of a role whose view is damaged.
    pub const fn view(role: Role) -> Self {
        match role {
            Role::Gate => Self::GateView,
            Role::Transmit => Self::TransmitView,
            Role::Receive => Self::ReceiveView,
            Role::Release => Self::ReleaseView,
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
