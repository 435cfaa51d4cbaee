/* Mailman's lock protocol and the janitor's release, for exhaustive checking by spin.
 *
 * One lock, two nodes (0 and 1), three claimants, a janitor on each node. An inode is known by the
 * claimant that made it; a name is a variable that holds an inode. Time is abstract: a lock that is
 * `near` its expiry may expire at any moment, and being pushed ahead ends that.
 *
 *   claimant 1  on node 1, holds the lock at the beginning; is killed, or its node is lost and then
 *               fenced, or it gives the lock up, or hands it to its child
 *   claimant 2  on node 0; may be killed while it holds the lock
 *   claimant 3  on node 0
 *
 * Properties (the four promises):
 *   never two    an assertion where a claimant gets the lock: nobody else alive believes to hold it.
 *                Not judged after a claimant broke the expired lock of a living one: that is
 *                Mailman's own rule, with or without a janitor (facts, 2).
 *   never lost   an assertion where the janitor is done with a file: no living owner's lock is gone.
 *   never stuck  claimants 2 and 3 come to their end in every run: spin's invalid end states.
 *   never silent an assertion where a release is given up: there is a reason.
 *
 * Scope, by definition on the command line:
 *   NEAR     the first lock is near its expiry, and claimants break it when it has expired
 *   NFS      a node may go on seeing the lock it saw before another node changed it (facts, 6)
 *   CRASH_J  a janitor may be killed once between any two of its steps
 *   WORD     node 1 may say that the process of claimant 1 has ended (a `stop` that could not reach
 *            the share), and another process with that pid may claim the lock afterwards
 *   HANDOVER claimant 1 may hand its lock to a child, as mailmanctl does (contract, 1.2: transfer):
 *            link, write, unlink, with two claims in between; either process may die at any moment,
 *            and where the parent dies the child does so later (while it lives it waits for ever)
 *   IDLE     each janitor may once begin a sweep that finds nothing; without it only those are made
 *            that find something when they begin
 *
 * Mutants, each of which spin must break:
 *   RELEASE_WITHOUT_RECHECK  nothing is looked at again before the move
 *   TRUST_LOCK_CONTENT       the lock is known by reading its name alone, not by its claim file
 *   NO_EXPIRY_PUSH           a lock near its expiry is moved without pushing it first
 *   LOST_TAKEN_FOR_FENCED    a node that is lost counts as dead
 *   NO_GUARD                 two releases may be under way
 *   NO_NOTE                  a killed release leaves no note
 *   TRUST_DEATH_OF_NAME      a lock is dead-here because a claimant of that host died, whichever
 *   ONE_CLAIM_COUNTS         of two claims on a lock only the first one's owner is asked after
 *   TRUST_OLD_WORD           a node's word counts for what the process's pid has locked since
 *
 * Not ours, and shown as such: STALLED_BREAKER lets a claimant rest between finding a lock expired
 * and removing it, as a stopped process would. It then removes whatever has come in the meantime;
 * Mailman alone has this fault too (contract, 1.3, "Bug").
 *
 * With TRACE the model says its steps, in lines that begin with `@`; tests/model replays them on real
 * files through the library (lib/mailman_ha/locks/release.py, agents/lock_sweep.py). One step of a
 * janitor here is there what lies between two places where the replay lets it stand still:
 *
 *   sweep    are there notes, is the guard free           judge, idle  the listing and the verdicts
 *   guard, resume  the guard is taken                     note    the second look, and the note
 *   push     the expiry pushed, and what it is then       look    guard, claims and lock once more
 *   move     the rename, and whether it was the right one unname  the claim files follow
 *   log      the line of evidence                         done    the note goes, and the guard unless
 *   known, unknown  an unfinished release: was it pushed          there is more to release
 *   back, left      of what was moved wrongly             changed, absent, then refuse: it is kept
 *
 * Coarser here than there, since nobody else can tell the difference: what only the holder of the
 * guard reads and writes (a note, a look at it, the question whether the right file was moved) goes
 * with the step before; giving up the guard goes with the end of the last release; whether the owner
 * still counts as dead is asked there before `look`, and a dead owner stays dead here. A stale name
 * is played by giving a janitor the old inode when it opens the lock: no NFS is on the way. HANDOVER
 * has no words for its steps and is not played. Not here at all: waiting for the guard in vain,
 * losing it to a stall, more than one lock, files that others put there, a claim that stands alone and is near
 * its expiry. Putting back is one step here, and link(2), then unlink(2), there.
 */

#define CLAIMANTS 3
#define NODE(p) ((p) == 1 -> 1 : 0)

byte lock = 1;                      /* the inode under the lock's name; 0: no such file */
bool claim[CLAIMANTS + 1];          /* whether the claim file of p is there (it is inode p) */
bool alive[CLAIMANTS + 1];
bool believes[CLAIMANTS + 1];       /* the claimant thinks that it holds the lock */
bool expired[CLAIMANTS + 1];
byte changes[CLAIMANTS + 1];        /* ctime: counts touches, links and unlinks */
bool fenced_since[CLAIMANTS + 1];   /* its node was fenced after the inode's last change */
bool ended_since[CLAIMANTS + 1];    /* its node has said after it that the process has ended */
bool word = false;                  /* node 1 says that the process of claimant 1 has ended */
bool over = false;                  /* claimant 1 as it was at first does nothing any more */
bool lost = false;                  /* node 1 is off the network, its processes live */
bool down = false;                  /* node 1 was fenced and is not back */
bool cut_off[2];                    /* the node's janitor was killed with it, and has not noticed */
bool near = false;
bool peer_broke = false;            /* a claimant broke the lock of a living one */
byte stale[2];                      /* what node n goes on seeing under the lock's name */
byte guard = 0;                     /* whose the guard is: node + 1 */
byte note = 0;                      /* the inode of an unfinished release */
bool note_of_claim = false;         /* it is about a claim that stands alone, not about the lock */
bool note_pushed = false;           /* the expiry was pushed */
bool note_logged = false;           /* the evidence was written */
byte moved = 0;                     /* the inode that the unfinished release has moved */
byte evidence = 0;                  /* lines written */
#ifdef HANDOVER
bool handed = false;                /* claimant 1 has begun to hand its lock to its child */
bool child = false;                 /* whether the child's claim file is there; it is inode 1 */
bool child_alive = false;
bool child_believes = false;
#else
#define child false
#define child_alive false
#define child_believes false
#endif
bool idled[2];                      /* the node's janitor has swept once with nothing to find */
bool killed_two = false;
byte crashes = 0;                   /* how many times a janitor may still be killed */

#ifdef TRACE
bool lock_aside[CLAIMANTS + 1];     /* in quarantine: the inode under the lock's name */
bool claim_aside[CLAIMANTS + 1];    /* in quarantine: the claim file of p */
#define ASIDE(what, i, there) what##_aside[i] = there
#define SAY(what, who) printf("@ "); printf(what); \
    printf(" %d | %d %d%d%d %d %d %d %d%d%d %d%d%d %d %d\n", who, \
    lock, claim[1], claim[2], claim[3], guard, note, evidence, \
    lock_aside[1], lock_aside[2], lock_aside[3], claim_aside[1], claim_aside[2], claim_aside[3], \
    stale[0], stale[1])
#else
#define ASIDE(what, i, there)
#define SAY(what, who)
#endif

#define CHANGE(i) changes[i] = (changes[i] + 1) % 8; fenced_since[i] = false; \
    ended_since[i] = false

/* Whether inode i has a claim's name, and whether nobody lives whom a claim on it names. */
#define NAMED(i) (claim[i] || (i == 1 && child))
#ifdef ONE_CLAIM_COUNTS
#define OWNERS_GONE(i) (!alive[i])
#else
#define OWNERS_GONE(i) (!(claim[i] && alive[i]) && !(i == 1 && child && child_alive))
#endif
#ifdef HANDOVER
#define UNNAME(i) claim[i] = false; child = (i == 1 -> false : child)
#else
#define UNNAME(i) claim[i] = false
#endif

/* Another node may keep the old view of the name, as long as the old inode has another name. */
inline forget_or_keep(by)
{
#ifdef NFS
    if
    :: lock != 0 && NAMED(lock) -> stale[1 - by] = lock
    :: true
    fi
#else
    skip
#endif
}

inline try_link(p)
{
    assert(lock == 0);
    forget_or_keep(NODE(p));
    lock = p;
    CHANGE(p);
    believes[p] = true;
    assert(peer_broke || !(p != 1 && alive[1] && believes[1]));
    assert(peer_broke || !(p != 2 && alive[2] && believes[2]));
    assert(peer_broke || !(p != 3 && alive[3] && believes[3]));
    assert(peer_broke || !(child_alive && child_believes));
    SAY("link", p)
}

inline break_lock(p)
{
    if
    :: lock != 0 ->
        if
        :: alive[lock] && believes[lock] -> peer_broke = true
        :: else
        fi;
        forget_or_keep(NODE(p));
        victim = lock;
        lock = 0;
        claim[victim] = false;
        CHANGE(victim)
    :: else
    fi;
    SAY("break", p)
}

proctype Claimant(byte p; bool holds)
{
    byte victim = 0;
    if
    :: holds -> goto holding
    :: else
    fi;
    atomic { claim[p] = true; CHANGE(p); SAY("claim", p) };
again:
    if
    :: atomic { lock == 0 && claim[p] -> try_link(p) }; goto holding
#ifdef STALLED_BREAKER
    :: atomic { lock != 0 && expired[lock] -> SAY("find", p) };
       atomic { break_lock(p) }; goto again
#else
    :: atomic { lock != 0 && expired[lock] -> break_lock(p) }; goto again
#endif
    fi;
holding:
    if
    :: !alive[p] -> goto dead
#ifdef HANDOVER
    :: atomic { p == 1 && alive[1] && !handed && lock == 1 ->
            handed = true; child = true; child_alive = true; CHANGE(1) };
       if
       :: atomic { alive[1] -> CHANGE(1) };  /* what it holds names the child now */
          if
          :: atomic { alive[1] -> claim[1] = false; believes[1] = false; CHANGE(1) }
          :: !alive[1]
          fi
       :: !alive[1]
       fi;
       goto dead
#endif
    :: atomic { p == 2 && !killed_two && alive[p] ->
            killed_two = true; alive[p] = false; SAY("kill", p) }; goto dead
    :: atomic { alive[p] ->
            believes[p] = false;
            if
            :: lock == p -> forget_or_keep(NODE(p)); lock = 0; CHANGE(p)
            :: else
            fi;
            near = (p == 1 -> false : near);
            SAY("unlock", p) }
    fi;
    if
    :: atomic { alive[p] -> claim[p] = false; CHANGE(p); SAY("unclaim", p) }
    :: !alive[p]
    fi;
dead:
#ifdef WORD
    over = (p == 1 -> true : over)
#else
    skip
#endif
}

#ifdef HANDOVER
/* The child of claimant 1 waits until the lock is its own alone, and gives it up. */
proctype Child()
{
end:
    if
    :: atomic { child_alive && child && !claim[1] && lock == 1 -> child_believes = true }
    fi;
    if
    :: atomic { child_alive -> child_believes = false;
            if
            :: lock == 1 -> forget_or_keep(1); lock = 0; CHANGE(1)
            :: else
            fi };
       if
       :: atomic { child_alive -> child = false; CHANGE(1) }
       :: !child_alive
       fi
    :: !child_alive
    fi
}
#endif

/* What happens to node 1 and its claimant, if anything does. */
proctype Accident()
{
    if
    :: true
#ifdef HANDOVER
    :: atomic { child_alive -> child_alive = false }
    :: atomic { alive[1] -> alive[1] = false }; atomic { child_alive = false }
#else
    :: atomic { alive[1] -> alive[1] = false; SAY("kill", 1) }
#endif
    :: atomic { true -> lost = true; SAY("lose", 1) };
       atomic { alive[1] = false; lost = false; down = true;
#ifdef HANDOVER
                child_alive = false;
#endif
                fenced_since[1] = true; cut_off[1] = true; SAY("fence", 1) };
       if
       :: atomic { down = false; SAY("rejoin", 1) }
       :: true
       fi
#ifdef WORD
    :: atomic { alive[1] -> alive[1] = false; SAY("kill", 1) };
       atomic { word = true; ended_since[1] = true; SAY("word", 1) };
       if
       :: atomic { over && lock != 1 && !claim[1] && note != 1 ->
               alive[1] = true; believes[1] = false; SAY("reuse", 1); run Claimant(1, false) }
       :: true
       fi
#endif
    fi
}

proctype Time()
{
end:
    do
    :: atomic { near && lock == 1 && !expired[1] -> expired[1] = true; SAY("expire", 1) }
#ifdef TRACE
    :: near && lock == 1 && !expired[1] -> skip  /* so that simulations do not begin with it */
    :: near && lock == 1 && !expired[1] -> skip
    :: near && lock == 1 && !expired[1] -> skip
    :: near && lock == 1 && !expired[1] -> skip
    :: near && lock == 1 && !expired[1] -> skip
    :: near && lock == 1 && !expired[1] -> skip
    :: near && lock == 1 && !expired[1] -> skip
#endif
#ifdef NFS
    :: atomic { stale[0] != 0 -> stale[0] = 0; SAY("refresh", 0) }
    :: atomic { stale[1] != 0 -> stale[1] = 0; SAY("refresh", 1) }
#endif
    od
}

#define SEEN(n) (stale[n] != 0 -> stale[n] : lock)

/* Dead here: of this host, and gone (of node 1 also: the host booted since). Fenced, ended: of the
 * other node, which was fenced, or has said so, after the inode was last changed. */
#ifdef TRUST_DEATH_OF_NAME
#define DEAD_HERE(n, i) (NODE(i) == n && (!alive[i] || (n == 0 && killed_two)))
#else
#define DEAD_HERE(n, i) (NODE(i) == n && OWNERS_GONE(i))
#endif
#ifdef LOST_TAKEN_FOR_FENCED
#define FENCED(n, i) (NODE(i) != n && (fenced_since[i] || (n == 0 && lost)))
#else
#define FENCED(n, i) (NODE(i) != n && fenced_since[i])
#endif
#ifdef TRUST_OLD_WORD
#define ENDED(n, i) (NODE(i) != n && i == 1 && word)
#else
#define ENDED(n, i) (NODE(i) != n && ended_since[i])
#endif
#define DEAD(n, i) (DEAD_HERE(n, i) || FENCED(n, i) || ENDED(n, i))

#ifdef TRUST_LOCK_CONTENT
#define KNOWN(n, i) (i != 0)
#define UNCHANGED(n, i, was) (SEEN(n) == i)
#else
#define KNOWN(n, i) (i != 0 && i == lock && NAMED(i))
#define UNCHANGED(n, i, was) (SEEN(n) == i && changes[i] == was && NAMED(i) && lock == i)
#endif

/* What a sweep finds: the lock, or the claim that claimant 1 left alone (no other dies so). */
#define DEAD_LOCK(n) (KNOWN(n, SEEN(n)) && DEAD(n, SEEN(n)))
#define DEAD_CLAIM(n) (NAMED(1) && lock != 1 && moved != 1 && DEAD(n, 1))

/* A killed janitor loses the guard in time (its lifetime is short), and is started again. */
#ifdef CRASH_J
#define MAY_CRASH :: atomic { crashes > 0 -> crashes--; guard = 0; SAY("crash", n) }; goto wait
#else
#define MAY_CRASH
#endif
#define GONE :: atomic { cut_off[n] -> guard = (guard == n + 1 -> 0 : guard); SAY("gone", n) }; \
    goto wait
#define HERE !cut_off[n]
/* A sweep begins only on a node that is in the cluster. */
#define UP (HERE && !(n == 1 && (down || lost)))

#define SAME (of_claim -> NAMED(i) && lock != i && changes[i] == now : UNCHANGED(n, i, now))

/* The end of one release: to the next, or the guard is given up. */
#define RELEASE_ENDS note = 0; note_of_claim = false; note_pushed = false; note_logged = false; \
    guard = (judged != 0 || and_claim -> guard : 0)

proctype Janitor(byte n)
{
    byte judged = 0, was = 0;       /* the lock that was found dead, and its changes then */
    bool and_claim = false;         /* the claim of claimant 1 was found dead, too */
    byte claim_was = 0;
    byte i = 0, now = 0;            /* the inode at hand, and its changes when last looked at */
    bool of_claim = false;          /* its claim file is released, which stands alone */
    bool before_listing = false;    /* this sweep has still to list the directory */
    byte why = 0;
end_wait:
wait:
    atomic { judged = 0; was = 0; and_claim = false; claim_was = 0; i = 0; now = 0;
        of_claim = false; before_listing = false; why = 0; cut_off[n] = false };
end_ready:
    if
    :: cut_off[n] -> goto wait
    :: atomic { UP && guard == 0 && note != 0 -> guard = n + 1; before_listing = true;
            SAY("resume", n) }; goto resume
    :: atomic { UP && (guard != 0 || note == 0) && (DEAD_LOCK(n) || DEAD_CLAIM(n)) ->
            SAY("sweep", n) }
#ifdef IDLE
    :: atomic { UP && (guard != 0 || note == 0) && !(DEAD_LOCK(n) || DEAD_CLAIM(n)) && !idled[n] ->
            idled[n] = true; SAY("sweep", n) }
#endif
    fi;
listing:
    if
    :: atomic { HERE && (DEAD_LOCK(n) || DEAD_CLAIM(n)) ->
            if
            :: DEAD_LOCK(n) -> judged = SEEN(n); was = changes[judged]
            :: else
            fi;
            if
            :: DEAD_CLAIM(n) -> and_claim = true; claim_was = changes[1]
            :: else
            fi;
            before_listing = false;
            SAY("judge", n) }
    :: atomic { HERE && !(DEAD_LOCK(n) || DEAD_CLAIM(n)) -> SAY("idle", n) }; goto wait
    GONE
    fi;
#ifndef NO_GUARD
    if
    :: atomic { HERE && guard == 0 -> guard = n + 1; SAY("guard", n) }
    GONE
    fi;
    if
    :: note != 0 -> goto resume
    :: else
    fi;
#endif
next:
    atomic {
        why = 0;
        if
        :: judged != 0 -> i = judged; now = was; of_claim = false; judged = 0; was = 0
        :: judged == 0 && and_claim -> i = 1; now = claim_was; of_claim = true;
                and_claim = false; claim_was = 0
        :: else ->
                if
                :: before_listing -> i = 0; now = 0; of_claim = false; goto listing
                :: else -> goto wait
                fi
        fi
    };
    if
#ifdef RELEASE_WITHOUT_RECHECK
    :: atomic { HERE -> note = i; note_of_claim = of_claim; SAY("note", n) }
#else
#ifdef NO_NOTE
    :: atomic { HERE && SAME -> SAY("note", n) }
#else
    :: atomic { HERE && SAME -> note = i; note_of_claim = of_claim; SAY("note", n) }
#endif
    :: atomic { HERE && !SAME -> why = 1; SAY("changed", n) }; goto refuse
#endif
    MAY_CRASH
    GONE
    fi;
#ifndef NO_EXPIRY_PUSH
    if
    :: of_claim || !near || i != 1
    :: else ->
        if
        :: atomic { HERE && SEEN(n) == 1 -> near = (lock == 1 -> false : near);
                expired[1] = false; CHANGE(1); now = changes[1]; note_pushed = true;
                SAY("push", n) }
        :: atomic { HERE && SEEN(n) != 1 -> why = 2; SAY("changed", n) }; goto refuse
        MAY_CRASH
        GONE
        fi
    fi;
#endif
look:
#ifndef RELEASE_WITHOUT_RECHECK
    if
    :: atomic { HERE && SAME -> SAY("look", n) }
    :: atomic { HERE && !SAME -> why = 3; SAY("changed", n) }; goto refuse
    MAY_CRASH
    GONE
    fi;
#endif
    if
    :: atomic { HERE && !of_claim && lock != 0 -> forget_or_keep(n); moved = lock; lock = 0;
            CHANGE(moved); ASIDE(lock, moved, true); SAY("move", n) }
    :: atomic { HERE && of_claim && NAMED(i) -> moved = i; UNNAME(i); CHANGE(i);
            ASIDE(claim, i, true); SAY("move", n) }
    :: atomic { HERE && (of_claim -> !NAMED(i) : lock == 0) -> why = 4; SAY("absent", n) };
       goto refuse
    MAY_CRASH
    GONE
    fi;
after:
    now = 0;
    if
    :: moved != i -> goto back
    :: else
    fi;
    if
    :: of_claim
    :: else ->
        if
        :: atomic { HERE -> ASIDE(claim, i, claim_aside[i] || claim[i]); UNNAME(i);
                SAY("unname", n) }
        MAY_CRASH
        GONE
        fi
    fi;
    if
    :: note_logged
    :: else ->
        if
        :: atomic { HERE -> evidence++; note_logged = true;
                assert(peer_broke || !(alive[i] && believes[i]));
                assert(!(i == 1 && child_alive)); SAY("log", n) }
        MAY_CRASH
        GONE
        fi
    fi;
    if
    :: atomic { HERE -> moved = 0; RELEASE_ENDS; SAY("done", n) }
    MAY_CRASH
    GONE
    fi;
    goto next;

back:
    if
    :: atomic { HERE && lock == 0 -> lock = moved; moved = 0; CHANGE(lock);
            ASIDE(lock, lock, false); why = 5; SAY("back", n) }
    :: atomic { HERE && lock != 0 ->
            assert(peer_broke || !(alive[moved] && believes[moved]));
            moved = 0; why = 6; SAY("left", n) }
    MAY_CRASH
    GONE
    fi;
    goto refuse;

resume:
    atomic { i = note; of_claim = note_of_claim };
    if
    :: moved != 0 -> goto after
    :: else
    fi;
    if
    :: atomic { HERE && note_pushed && SEEN(n) == i && lock == i && NAMED(i) ->
            now = changes[i]; SAY("known", n) }; goto look
    :: atomic { HERE && !(note_pushed && SEEN(n) == i && lock == i && NAMED(i)) ->
            SAY("unknown", n) }
    MAY_CRASH
    GONE
    fi;
    if
    :: atomic { HERE -> RELEASE_ENDS; SAY("forget", n) }; goto next
    MAY_CRASH
    GONE
    fi;

refuse:
    assert(why != 0);
    if
    :: atomic { HERE -> RELEASE_ENDS; SAY("refuse", n) }; goto next
    MAY_CRASH
    GONE
    fi
}

init
{
    atomic {
        alive[1] = true; alive[2] = true; alive[3] = true;
        claim[1] = true; believes[1] = true;
#ifdef NEAR
        near = true;
#endif
#ifdef CRASH_J
        crashes = 1;
#endif
        SAY("begin", 0);
        run Claimant(1, true); run Claimant(2, false); run Claimant(3, false);
#ifdef HANDOVER
        run Child();
#endif
        run Accident(); run Time(); run Janitor(0); run Janitor(1)
    }
}
