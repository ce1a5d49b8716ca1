"""C's fmod in integer arithmetic: exact, for targets whose `frem` is not.

Both are positive after the sign is taken off; as integers m·2^e, the exponents are brought together
one bit at a time, while the remainder stays below the divisor (schoolbook division).
"""

from __future__ import annotations


def _text(name: str, ty: str, bits: int, mantissa: int) -> str:
    i = f"i{bits}"
    hidden = 1 << mantissa
    infinite = ((1 << (bits - 1 - mantissa)) - 1) << mantissa
    top = (1 << (bits - 1)) - 1
    nan = infinite | hidden >> 1
    return f"""
define internal {ty} {name}({ty} %x, {ty} %y) noinline nounwind {{
entry:
  %xb = bitcast {ty} %x to {i}
  %yb = bitcast {ty} %y to {i}
  %xa = and {i} %xb, {top}
  %ya = and {i} %yb, {top}
  %sign = xor {i} %xb, %xa
  %xbad = icmp uge {i} %xa, {infinite}
  %ynan = icmp ugt {i} %ya, {infinite}
  %yzero = icmp eq {i} %ya, 0
  %bad1 = or i1 %xbad, %ynan
  %bad = or i1 %bad1, %yzero
  br i1 %bad, label %nan, label %small
nan:
  %nanv = bitcast {i} {nan} to {ty}
  ret {ty} %nanv
small:
  %less = icmp ult {i} %xa, %ya
  br i1 %less, label %same, label %split
same:
  ret {ty} %x
split:
  %xe0 = lshr {i} %xa, {mantissa}
  %ye0 = lshr {i} %ya, {mantissa}
  %xm0 = and {i} %xa, {hidden - 1}
  %ym0 = and {i} %ya, {hidden - 1}
  %xsub = icmp eq {i} %xe0, 0
  %ysub = icmp eq {i} %ye0, 0
  %xm1 = or {i} %xm0, {hidden}
  %ym1 = or {i} %ym0, {hidden}
  %xm = select i1 %xsub, {i} %xm0, {i} %xm1
  %ym = select i1 %ysub, {i} %ym0, {i} %ym1
  %xe = select i1 %xsub, {i} 1, {i} %xe0
  %ye = select i1 %ysub, {i} 1, {i} %ye0
  %whole = udiv {i} %xm, %ym
  %cut = mul {i} %whole, %ym
  %r0 = sub {i} %xm, %cut
  br label %loop
loop:
  %e = phi {i} [ %xe, %split ], [ %enext, %step ]
  %r = phi {i} [ %r0, %split ], [ %rnext, %step ]
  %more = icmp ugt {i} %e, %ye
  br i1 %more, label %step, label %pack
step:
  %r2 = shl {i} %r, 1
  %ge = icmp uge {i} %r2, %ym
  %take = select i1 %ge, {i} %ym, {i} 0
  %rnext = sub {i} %r2, %take
  %enext = sub {i} %e, 1
  br label %loop
pack:
  %zero = icmp eq {i} %r, 0
  br i1 %zero, label %none, label %normal
none:
  %zv = bitcast {i} %sign to {ty}
  ret {ty} %zv
normal:
  %n = phi {i} [ %r, %pack ], [ %nup, %shift ]
  %ne = phi {i} [ %ye, %pack ], [ %nedown, %shift ]
  %low = icmp ult {i} %n, {hidden}
  %can = icmp ugt {i} %ne, 1
  %go = and i1 %low, %can
  br i1 %go, label %shift, label %done
shift:
  %nup = shl {i} %n, 1
  %nedown = sub {i} %ne, 1
  br label %normal
done:
  %frac = and {i} %n, {hidden - 1}
  %expo = shl {i} %ne, {mantissa}
  %packed = or {i} %frac, %expo
  %subnormal = icmp ult {i} %n, {hidden}
  %mag = select i1 %subnormal, {i} %n, {i} %packed
  %all = or {i} %mag, %sign
  %out = bitcast {i} %all to {ty}
  ret {ty} %out
}}
"""


FMOD = {
    "@flowc_fmodf(": _text("@flowc_fmodf", "float", 32, 23),
    "@flowc_fmod(": _text("@flowc_fmod", "double", 64, 52),
}
