"""Making the schema: descriptors out of generated modules, and definitions of our own added."""

import importlib.util
import pathlib

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "build_schema.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("build_schema", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_descriptor_is_read_from_the_source_and_not_run(tool):
    source = "raise SystemExit\nDESCRIPTOR = pool.Default().AddSerializedFile(b'\\n\\x01a')\n"

    assert tool._descriptor_literal(source) == b"\n\x01a"
    assert tool._descriptor_literal("x = 1") is None


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("envoy/config/route/v3/route.proto", True),
        ("envoy/api/v2/cds.proto", False),
        ("envoy/annotations/deprecation.proto", False),  # comes in as an import
        ("xds/core/v3/authority.proto", True),
        ("google/protobuf/any.proto", True),
        ("google/protobuf/compiler/plugin.proto", False),
        ("google/api/http.proto", False),
    ],
)
def test_which_files_are_kept(tool, name, kept):
    assert tool.wanted(name) is kept


NEWER = """
// in a.proto
message Known {
  string more = 2;  // {"rules": {"string": {"min_len": 1}}}
  string old = 1;  // {}
  repeated b.Other others = 3;
  map<string, b.Other> by_name = 4;
  optional bool maybe = 5;
  oneof choice {
    string one = 6;
    b.Kind two = 7;
  }
  message Inner {
    oneof must {  // required
      bytes data = 1;
    }
  }
}

// in b.proto
package b;
message Other {
}
enum Kind {
  NONE = 0;
}
"""


def test_definitions_are_added_to_what_is_there(tool):
    file = descriptor_pb2.FileDescriptorProto(name="a.proto", package="a", syntax="proto3")
    known = file.message_type.add(name="Known")
    known.field.add(name="old", number=1, type="TYPE_STRING", label="LABEL_OPTIONAL")
    files = {"a.proto": file}

    rules = tool.Newer(files).add(NEWER)

    pool = DescriptorPool()
    for name in ("b.proto", "a.proto"):
        pool.AddSerializedFile(files[name].SerializeToString())
    found = pool.FindMessageTypeByName("a.Known")
    assert {field.name: field.number for field in found.fields} == {
        "old": 1, "more": 2, "others": 3, "by_name": 4, "maybe": 5, "one": 6, "two": 7,
    }  # fmt: skip
    assert list(file.dependency) == ["b.proto"]
    assert found.fields_by_name["others"].message_type.full_name == "b.Other"
    assert found.fields_by_name["two"].enum_type.full_name == "b.Kind"
    assert [field.name for field in found.oneofs_by_name["choice"].fields] == ["one", "two"]
    assert found.fields_by_name["maybe"].has_presence
    assert found.fields_by_name["by_name"].message_type.GetOptions().map_entry
    assert rules == {
        ("a", "a.Known"): {
            "fields": {"more": {"rules": {"string": {"min_len": 1}}}, "old": {}},
            "oneofs": [],
        },
        ("a", "a.Known.Inner"): {"fields": {}, "oneofs": ["must"]},
    }


def test_the_definitions_that_are_shipped_can_be_read(tool):
    files: dict = {}
    newer = tool.Newer(files)
    newer._resolve = lambda: None  # their imports are in xds-protos

    newer.add(tool.NEWER.read_text("utf-8"))

    assert "envoy/config/route/v3/route_components.proto" in files
