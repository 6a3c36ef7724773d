from database_operator.kube.objects import AnnotatedMeta


def test_a_version_alone_makes_no_difference_either_way_it_is_asked() -> None:
    one, other = AnnotatedMeta(name="x", resource_version="1"), AnnotatedMeta(name="x", resource_version="2")
    assert one == other
    assert (one != other) is False
    assert one != AnnotatedMeta(name="y", resource_version="1")
